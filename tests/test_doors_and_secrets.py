"""A sweep that was started with a secret in every place that takes one: where it listens, who gets in, and that no
secret is written, printed or shown to other processes. docs/security.md says what is meant to hold."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests import postgresql
from tests.conftest import quick
from tests.running import command, serving, write_sweep

pytestmark = pytest.mark.slow
NOBODY = 65534
PLANTED = {
    "MLFLOW_TRACKING_USERNAME": "plantedOfUser",
    "MLFLOW_TRACKING_PASSWORD": "plantedOfPassword",
    "WANDB_API_KEY": "0" * 28 + "beefcafebeef",
    "HF_TOKEN": "hf_plantedOfTheHub",
    "AWS_SECRET_ACCESS_KEY": "plantedOfStorage",
    "PGPASSWORD": postgresql.PASSWORD,
}
OF_ADDRESS, OF_COMMENT = "plantedOfAddress", "plantedOfComment"
SECRETS = [secret.encode() for secret in (*PLANTED.values(), OF_ADDRESS, OF_COMMENT)]
KNOCK = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).internal_kv_keys(b"", None)
except Exception as error:
    sys.exit(f"refused: {error}")
"""


@dataclass
class Seen:
    """What was seen of a sweep while it ran, and what it left."""

    folder: Path
    session: Path
    printed: str = ""
    code: int = -1
    listening: set[tuple[str, str]] = field(default_factory=set)  # of which process, at which address
    told: set[str] = field(default_factory=set)  # command lines
    modes: dict[str, int] = field(default_factory=dict)
    leaked: set[str] = field(default_factory=set)  # files of Ray's session with a secret
    refused: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)  # of PostgreSQL, where that is installed

    def look(self, driver):
        for process in [driver, *driver.children(recursive=True)]:
            try:
                self.told.add(" ".join(process.cmdline()))
                for found in process.net_connections("inet"):
                    if found.status == psutil.CONN_LISTEN:
                        self.listening.add((process.name(), found.laddr.ip.removeprefix("::ffff:")))
            except psutil.NoSuchProcess:
                continue
        self.leaked |= leaks(self.session)


def leaks(folder):
    """The files below a folder with a planted secret in them; archives are unpacked."""
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)  # of folders that go: nothing
    return {str(path) for path in paths if path.is_file() and any(s in _content(path) for s in SECRETS)}


def _content(path):
    try:
        if not zipfile.is_zipfile(path):
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return b"".join(archive.read(name) for name in archive.namelist())
    except FileNotFoundError:  # of a process that ended
        return b""


@pytest.fixture(scope="module")
def seen(tiny_encoder, photographs, tmp_path_factory):
    folder, short = tmp_path_factory.mktemp("doors"), Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    settings = quick(tiny_encoder, photographs, folder) | {"experiment.use_wandb": True}
    del settings["experiment.tracking_uri"]
    with ExitStack() as opened:
        opened.callback(shutil.rmtree, short, ignore_errors=True)
        databases = opened.enter_context(_databases())
        one = {"grid": {"model.compressor.output_grid_size": [3]}, "trials": 1, "baselines": False}
        file = write_sweep(folder, settings, **one, storage={"study": databases and databases.create("studies")})
        file.write_text(f"# As http://me:{OF_COMMENT}@host/ has it\n{file.read_text()}")
        store = databases.create("records") if databases else f"sqlite:///{folder}/mlflow.db"
        places = ["--backend-store-uri", store, "--artifacts-destination", f"{folder}/artifacts"]
        serves = serving(folder, "/health", sys.executable, "-m", "mlflow", "server", "--workers", "1", *places)
        server = opened.enter_context(serves)
        found = _watched(folder, short, file, server.replace("://", f"://me:{OF_ADDRESS}@"))
        found.tables = _tables(databases, store) if databases else {}
        yield found


@contextmanager
def _databases():
    """A PostgreSQL server with its password in the environment; None where there is none to start."""
    if postgresql.programs() is None:
        yield None
        return
    with postgresql.server() as found, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PGPASSWORD", postgresql.PASSWORD)
        yield found


def _tables(databases, store):
    """What MLflow and Optuna keep of the sweep: {table: its rows, as text}."""
    import psycopg

    found = {}
    for address, names in ((store, ("runs", "params", "tags")), (databases.address("studies"), ("studies", "trials"))):
        with psycopg.connect(address) as connection:
            found |= {name: str(connection.execute(f"select * from {name}").fetchall()) for name in names}
    return found


def _watched(folder, short, file, address):
    home = folder / "home"
    home.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment = {**clean, **PLANTED, "MLFLOW_TRACKING_URI": address, "WANDB_MODE": "offline", "HOME": str(home)}
    with (folder / "printed").open("w+") as printed:
        process = subprocess.Popen(
            command(file),
            cwd=folder,
            env={**environment, "RAY_TMPDIR": str(short)},
            stdout=printed,
            stderr=subprocess.STDOUT,
            umask=0o077,
        )
        found, next_look = Seen(folder, short), 0.0
        driver, trials = psutil.Process(process.pid), folder / "outputs" / "tiny" / "trials"
        while process.poll() is None:
            if not found.refused and any(trials.glob("*/metrics.jsonl")):
                _knock(process, found)
            if time.monotonic() > next_look:
                found.look(driver)
                next_look = time.monotonic() + 1.5
            time.sleep(0.02)
        printed.seek(0)
        found.printed, found.code = printed.read(), process.returncode
    return found


def _knock(process, found):
    """While the driver stands still, and Ray does not."""
    process.send_signal(signal.SIGSTOP)
    try:
        found.look(psutil.Process(process.pid))
        (session,) = found.session.glob("ray_*")
        found.modes = {name: _mode(session / name) for name in ("", "token")}
        found.refused |= {what: _as_nobody(try_it) for what, try_it in _doors(session).items()}
        port = next(session.rglob("gcs_server_port_*")).read_text()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        knocking = {
            mode: subprocess.Popen(
                [sys.executable, "-c", KNOCK, f"127.0.0.1:{port}"],
                env={**clean, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": "0" * 64},
                stderr=subprocess.PIPE,
                text=True,
            )
            for mode in ("token", "disabled")
        }
        for mode, knock in knocking.items():
            found.refused[f"cluster, {mode}"] = knock.communicate(timeout=120)[1] if knock.wait(120) else ""
    finally:
        process.send_signal(signal.SIGCONT)


def _doors(session):
    raylet = next(session.rglob("sockets/raylet"))

    def connect():
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(raylet))

    return {"token": (session / "token").read_text, "session": lambda: os.listdir(session), "raylet": connect}


def _as_nobody(try_it):
    """What refuses that to another user; empty where nothing does."""
    if os.geteuid():
        return "not tried"
    ours, its = os.pipe()
    if not (child := os.fork()):
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try_it()
        except BaseException as error:
            os.write(its, type(error).__name__.encode())
        os._exit(0)
    os.close(its)
    os.waitpid(child, 0)
    with os.fdopen(ours) as told:
        return told.read()


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_sweep_was_one_and_went_through(seen):
    assert seen.code == 0, seen.printed
    assert "MLflow: http://***@127.0.0.1:" in seen.printed and any("ray::" in line for line in seen.told)
    assert (seen.folder / "outputs" / "tiny" / "wandb").is_dir() and [*(seen.folder / "artifacts").rglob("*.pt")]


def test_no_secret_is_left_anywhere_nor_printed_nor_in_a_command_line(seen):
    assert {Path(path).name for path in leaks(seen.folder)} == {"tiny.yaml"}  # whose comment the user wrote
    assert not seen.leaked
    for secret in SECRETS:
        assert secret.decode() not in seen.printed and not any(secret.decode() in line for line in seen.told)
    assert "As http://***@host/ has it" in (seen.folder / "outputs" / "tiny" / "sweep.yaml").read_text()


def test_the_ledger_and_mlflows_records_lie_in_postgresql_without_a_secret(seen):
    if not seen.tables:
        pytest.skip("no PostgreSQL server on this machine (Debian: postgresql)")
    assert "tiny-" in seen.tables["studies"] and "COMPLETE" in seen.tables["trials"]
    assert "FINISHED" in seen.tables["runs"] and "loss.lambda_gp" in seen.tables["params"]
    assert not any(secret.decode() in rows for secret in SECRETS for rows in seen.tables.values())
    assert not (seen.folder / "outputs" / "tiny" / "study.db").exists()


def test_every_process_of_the_sweep_listens_at_the_loopback_address_alone(seen):
    assert {"gcs_server", "raylet"} <= {process for process, _ in seen.listening}
    assert {address for _, address in seen.listening} == {"127.0.0.1"}


def test_rays_session_is_private_and_goes_with_the_sweep(seen):
    assert seen.modes == {"": 0o700, "token": 0o600}
    assert not [*seen.session.iterdir()] and not (seen.folder / "home" / ".ray").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try as another user")
def test_another_user_of_the_machine_is_refused(seen):
    assert {what: seen.refused[what] for what in ("token", "session", "raylet")} == dict.fromkeys(
        ("token", "session", "raylet"), "PermissionError"
    )


def test_who_has_no_token_is_refused_by_the_cluster(seen):
    for mode in ("token", "disabled"):
        assert "refused: " in seen.refused[f"cluster, {mode}"], seen.refused


def test_what_a_sweep_leaves_has_the_permissions_that_the_umask_leaves(seen):
    root = seen.folder / "outputs" / "tiny"
    found = [path for path in root.rglob("*") if not path.is_symlink()]
    assert len(found) > 20 and [path for path in found if _mode(path) & 0o077] == []
