"""A sweep from outside a cluster, by Ray's client, on a cluster that `ray start` began."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.ports import free_port
from tests.repository import REPOSITORY
from tests.running import command, trial_rows, until, write_sweep
from toconv.sweep import ray_client

pytestmark = pytest.mark.slow
NOWHERE = (
    "import os, sys; os.getcwd = lambda: '/nowhere'; from toconv.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Its client's address, what shows its token, and its GCS's address."""
    gcs, client = free_port(), free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    shown = {**clean, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    options = [f"--port={gcs}", f"--ray-client-server-port={client}", "--num-cpus=2", "--include-dashboard=false"]
    ray = Path(sys.executable).with_name("ray")
    process = subprocess.Popen(
        [ray, "start", "--head", "--block", *options, "--disable-usage-stats"],
        env=shown,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: socket.create_connection(("127.0.0.1", client), 1).close() is None)
        yield f"ray://127.0.0.1:{client}", shown, f"127.0.0.1:{gcs}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def test_a_sweep_runs_on_the_first_machine_and_prints_here(cluster, tiny, tmp_path):
    address, shown, _ = cluster
    settings = {**tiny, "training.epochs": 200, "experiment.tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    file = write_sweep(tmp_path, settings, trials=1, sampler="random", baselines=False)
    words = command(file, f"cluster.address={address}")
    given = {"cwd": tmp_path, "env": shown, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    first = subprocess.Popen(words, **given)
    metrics = tmp_path / "outputs" / "tiny" / "trials"
    until(lambda: first.poll() is not None or [*metrics.glob("*/latest.pt")])
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 130 and "running trial(s) end their epoch and save" in said, said
    done = subprocess.run(words, timeout=200, **given)
    assert done.returncode == 0 and "to go on with" in done.stdout and "done in" in done.stdout, done.stdout
    assert {row["state"] for row in trial_rows(tmp_path)} == {"complete"}


def test_a_folder_that_the_first_machine_does_not_have_is_named(cluster, tiny, tmp_path):
    address, shown, _ = cluster
    words = ["sweep", str(write_sweep(tmp_path, tiny)), f"cluster.address={address}"]
    environment = {**shown, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", NOWHERE, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"cluster.address={address}: /nowhere: its first machine has no such folder" in done.stderr


@pytest.mark.parametrize("mode", [(), ("--dry-run",)])
def test_the_address_of_the_other_server_is_refused_at_once_with_the_form_to_write(cluster, tiny, tmp_path, mode):
    """With the token and without."""
    (client, shown, gcs), file = cluster, write_sweep(tmp_path, tiny)
    for address, right in ((client.removeprefix("ray://"), client), (f"ray://{gcs}", gcs)):
        for environment in (shown, {key: value for key, value in shown.items() if not key.startswith("RAY_")}):
            words = command(file, f"cluster.address={address}", *mode)
            done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2 and f": write {right}; a cluster's GCS is at" in done.stderr, done.stderr


@pytest.mark.parametrize("mode", [(), ("--dry-run",)])
def test_a_token_that_the_client_server_refuses_is_told_at_once(cluster, tiny, tmp_path, mode):
    address, shown, _ = cluster
    words = command(write_sweep(tmp_path, tiny), f"cluster.address={address}", *mode)
    environment = {**shown, "RAY_AUTH_TOKEN": "planted" * 9}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    told = f"the Ray cluster at {address} refuses the token of RAY_AUTH_TOKEN; show the one that it was started with"
    assert done.returncode == 2 and told in done.stderr and "planted" not in done.stdout + done.stderr, done.stderr


def test_where_nobody_answers_the_address_is_named(tiny, tmp_path):
    words = command(write_sweep(tmp_path, tiny), "cluster.address=ray://127.0.0.1:1")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4 and "cluster.address=ray://127.0.0.1:1 names it" in done.stderr, done.stderr
    assert "GCS is at HOST:PORT, as a rule 6379, and Ray's client at ray://HOST:PORT" in done.stderr


def test_what_the_command_says_as_it_is_interrupted_is_not_lost(monkeypatch, capfd):
    said, waits = [(b"first\n", None), (b"second\n", None), (b"", 130)], [KeyboardInterrupt]
    more, interrupt = (SimpleNamespace(remote=does) for does in (lambda: said.pop(0), lambda: None))

    def get(answer):
        if waits:
            raise waits.pop()
        return answer

    monkeypatch.setattr(ray_client, "ray", SimpleNamespace(get=get))
    assert ray_client._told(SimpleNamespace(more=more, interrupt=interrupt)) == 130
    assert capfd.readouterr().out == "first\nsecond\n"
