"""A PostgreSQL server of the tests' own, at a free port of the loopback address, which asks for a password; and a wire
to it that can be cut."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port

NOBODY = 65534  # PostgreSQL does not run as root
USER, PASSWORD = "toconv", "plantedOfPostgres"
START_SECONDS = 30


def programs():
    """The folder of initdb and postgres; None where they are not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = [path for path in reversed(debian) if (path / "initdb").exists()]
    path = shutil.which("initdb")
    return found[0] if found else Path(path).parent if path and shutil.which("postgres") else None


def needed():
    """Skips where there is no server to start."""
    if programs() is None:
        pytest.skip("no PostgreSQL server on this machine (Debian: postgresql)")


class Server:
    """Databases are made by `create`; PGPASSWORD must be in the environment of whoever logs in."""

    def __init__(self, folder):
        self.folder, self._process = folder, None
        self.port = free_port()
        self._as = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            os.chown(folder, NOBODY, NOBODY)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        words = ["-D", folder / "data", "-U", USER, f"--pwfile={password}", "--auth=scram-sha-256"]
        words += ["--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([programs() / "initdb", *words], check=True, cwd=folder, capture_output=True, **self._as)
        password.unlink()

    def start(self):
        """Until it takes logins."""
        import psycopg

        words = ["-D", self.folder / "data", "-k", self.folder, "-h", "127.0.0.1", "-p", str(self.port), "-F"]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([programs() / "postgres", *words], stdout=log, stderr=log, **self._as)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with suppress(psycopg.OperationalError), self._login():
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self):
        """At once: whoever is connected is cut off."""
        self.go_on()
        self._process.send_signal(2)
        self._process.wait(START_SECONDS)

    def restart(self):
        self.stop()
        self.start()

    def _all(self):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        return []

    def stand_still(self):
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def fill_its_disk(self):
        """RLIMIT_FSIZE stands for the full disk: every write to a file fails. Ends once it is started again."""
        for process in self._all():
            done = subprocess.run(["prlimit", f"--pid={process.pid}", "--fsize=0:"], cwd="/", **self._as)
            assert done.returncode == 0 or not process.is_running()

    def go_on(self):
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def address(self, database, port=None, user=USER):
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def create(self, database):
        """Its address."""
        with self._login() as connection:
            connection.execute(f"create database {database}")
        return self.address(database)

    def rename(self, database, name):
        """Whoever is connected is cut off."""
        with self._login() as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])
            connection.execute(f"alter database {database} rename to {name}")

    def drop(self, database):
        with self._login() as connection:
            connection.execute(f"drop database {database}")

    def _login(self):
        import psycopg

        return psycopg.connect(self.address("postgres"), password=PASSWORD, autocommit=True, connect_timeout=2)


@contextmanager
def server():
    """One that runs. Its folder lies where another user reaches it."""
    needed()
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    try:
        found = Server(folder)
        found.start()
        yield found
        found.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Wire:
    """Carries bytes between clients and a server. `cut_at` are words of a client's: where they come up next, they are
    passed on and the server's answer to them is not, or not even they (`passed=False`)."""

    def __init__(self, port):
        self._to, self.cut_at, self.passed, self.cuts = port, None, True, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    there = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    client.close()
                    continue
                self._pairs.append((client, there))
                threading.Thread(target=self._forth, args=(client, there), daemon=True).start()
                threading.Thread(target=self._back, args=(there, client), daemon=True).start()

    def _forth(self, client, there):
        with suppress(OSError):
            while content := client.recv(2**16):
                if self.cut_at and self.cut_at in content:
                    self.cut_at, self.cuts = None, self.cuts + 1
                    client.shutdown(socket.SHUT_RDWR)
                    if self.passed:
                        there.sendall(content)
                        time.sleep(0.3)  # that the server takes to do it
                    break
                there.sendall(content)
        _shut(client, there)

    def _back(self, there, client):
        with suppress(OSError):
            while content := there.recv(2**16):
                client.sendall(content)
        _shut(client, there)

    def cut(self):
        """All connections, as a network that fails."""
        for pair in self._pairs:
            _shut(*pair)

    def close(self):
        self._listening.close()
        self.cut()


def _shut(*ends):
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
