"""A tracking server that is restarted, hangs, or is gone: nothing is missing in the end."""

import os
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from tests.ports import free_port
from tests.running import (
    assert_as_undisturbed,
    rows,
    run,
    start,
    toconv_command,
    trial_rows,
    wait_for_epochs,
    write_sweep,
)
from tests.sweep.faults import ended, halted

pytestmark = pytest.mark.slow
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}  # seconds, MLflow's own


class Server:
    """`mlflow server` on a free port of this machine."""

    def __init__(self, folder):
        self.port = free_port()
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--port",
                str(self.port),
                "--workers",
                "1",
                "--backend-store-uri",
                f"sqlite:///{self.folder / 'mlflow.db'}",
                "--artifacts-destination",
                str(self.folder / "artifacts"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(600):
            try:
                return urlopen(f"{self.uri}/health").read()
            except OSError:
                time.sleep(0.1)
        raise AssertionError("mlflow server did not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for all tests, each of which has an experiment of its own there."""
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


def write(folder, settings, server, name):
    return write_sweep(folder, {**settings, "experiment.tracking_uri": server.uri}, sampler="random", name=name)


def test_a_tracking_server_that_is_restarted_has_missed_nothing(long_settings, tmp_path, server, reference):
    process = start(tmp_path, write(tmp_path, long_settings, server, "restarted"))
    with halted(wait_for_epochs(tmp_path, process, 3, "restarted")):  # else the sweep may end without a server
        server.kill()
        time.sleep(5)
        server.start()
    code, _, stderr = ended(process)
    assert code == 0, stderr
    assert_as_undisturbed(tmp_path, reference, server.uri, "restarted")


def test_a_tracking_server_that_hangs_costs_no_trial_and_is_told_later_once(long_settings, tmp_path, server, reference):
    file = write(tmp_path, long_settings, server, "hangs")
    process = start(tmp_path, file, **IMPATIENT)
    wait_for_epochs(tmp_path, process, 3, "hangs")
    os.killpg(server.process.pid, signal.SIGSTOP)
    code, stdout, stderr = ended(process)
    os.killpg(server.process.pid, signal.SIGCONT)
    assert code == 0 and "not delivered" in stdout, stdout + stderr
    time.sleep(3)
    again = run(tmp_path, file)
    assert again.returncode == 0, again.stderr
    assert_as_undisturbed(tmp_path, reference, server.uri, "hangs")


def test_a_tracking_server_that_is_gone_costs_nothing_and_is_told_later_once(
    long_settings, tmp_path, server, reference
):
    server.kill()
    done = start(tmp_path, write(tmp_path, long_settings, server, "gone"), **IMPATIENT).completed(300)
    assert done.returncode == 0 and "not delivered" in done.stdout, done.stdout + done.stderr
    assert {r["state"] for r in trial_rows(tmp_path, "gone")} == {"complete"}
    server.start()
    for _ in range(2):
        synced = toconv_command(tmp_path, "sync", "gone")
        assert synced.returncode == 0 and "are in MLflow" in synced.stdout, synced.stderr
        assert_as_undisturbed(tmp_path, reference, server.uri, "gone")
    assert all(row["mlflow_run_id"] for row in rows(tmp_path, "gone"))
