"""A Ray cluster of machines that come and go, each by Ray's own command, in a folder of its own and with a CPU; one may
have disks of its own in place of some folders."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own is mounted for one machine")

RAY = str(Path(sys.executable).with_name("ray"))
START = [RAY, "start", "--num-cpus=1", "--block", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]


class Machine:
    def __init__(self, process):
        self._process = process

    def lose(self):
        """With all that runs there."""
        if self._process.poll() is None:
            for process in self._below():
                with suppress(psutil.NoSuchProcess):  # its parent, killed before it, may have taken it along
                    process.kill()
            self._process.kill()
        self._process.wait(30)

    def works(self):
        """{number of a worker: what it does}"""
        found = {}
        for process in self._below():
            with suppress(psutil.NoSuchProcess):
                found[process.pid] = process.name()
        return {pid: name for pid, name in found.items() if name.startswith("ray::")}

    def _below(self):
        return psutil.Process(self._process.pid).children(recursive=True)


class Machines:
    """The first of them is the head. `environment` is that of a driver that joins."""

    def __init__(self, folder, opened, gpus):
        short = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
        opened.callback(shutil.rmtree, short, ignore_errors=True)
        self._folder, self._opened, self._gpus, self._joined = folder, opened, gpus, 0
        address = f"127.0.0.1:{free_port()}"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHONPATH"))}
        self.environment = {
            **clean,
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "5" * 64,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # several nodes at the loopback address
            "PYTHONUNBUFFERED": "1",
        }
        port = address.rpartition(":")[2]
        self.head = self._begin("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={short / 'a'}")

    def join(self, hidden=()):
        """One more, which does not see what is in `hidden`."""
        return self._begin(f"--address={self.environment['RAY_ADDRESS']}", hidden=hidden)

    def drain(self, node):
        """As an autoscaler does where a machine is taken back in ten minutes."""
        words = [f"--node-id={node}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken back"]
        words.append("--deadline-remaining-seconds=600")
        subprocess.run([RAY, "drain-node", *words], env=self.environment, check=True, capture_output=True)

    def _begin(self, *words, hidden=()):
        self._joined += 1
        place = self._folder / f"machine {self._joined}"
        place.mkdir()
        mounts = "".join(f"mount -t tmpfs none '{path}' && " for path in hidden)
        begins = [*START, f"--num-gpus={self._gpus}", *words]
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f"{mounts}exec {' '.join(begins)}"] if hidden else begins,
            env={key: value for key, value in self.environment.items() if key != "RAY_ADDRESS"},
            cwd=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        machine = Machine(process)
        self._opened.callback(machine.lose)
        said = [*_until(process.stdout, "Ray runtime started")]
        assert process.poll() is None, said
        return machine


@contextmanager
def machines(folder, gpus=0):
    """With the head alone, and so many logical GPUs on each."""
    with ExitStack() as opened:
        yield Machines(folder, opened, gpus)


def _until(lines, text):
    for line in lines:
        yield line
        if text in line:
            return
