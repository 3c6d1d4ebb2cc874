"""A sweep that commands of other processes steer while it runs, and that is killed between a request and its act."""

import json
import time

import pytest

from tests.running import mlflow_runs, rows, run, start, toconv_command, wait_for_epochs, write_sweep
from tests.sweep.faults import halted
from toconv.paths import SweepPaths

pytestmark = pytest.mark.slow
K = "model.compressor.output_grid_size"


def said(folder, *words, code=0):
    done = toconv_command(folder, *words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def status(folder):
    return json.loads(said(folder, "status", "tiny", "--json"))


def until(folder, holds, seconds=180):
    end = time.monotonic() + seconds
    while not holds(found := status(folder)):
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return found


def test_a_sweep_does_once_what_was_asked_while_it_ran_and_while_it_did_not(long_settings, tmp_path, ledger_in):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = {**long_settings, "training.epochs": 100, "experiment.tracking_uri": uri}
    file = write_sweep(tmp_path, settings, sampler="random", trials=4, grid={K: [2]}, **ledger_in)
    process = start(tmp_path, file)
    trial = wait_for_epochs(tmp_path, process, 2)
    with halted(trial):  # each request waits for its answer, in all as long as a quick machine trains
        (at_work,) = status(tmp_path)["open"]
        assert status(tmp_path)["standing"] == "running" and at_work["trial_id"] == trial.name
        said(tmp_path, "pause", "tiny")
        said(tmp_path, "slots", "tiny", "1")
        assert "taken; k=2/0 ends with epoch" in said(tmp_path, "stop", "tiny", "--trial", trial.name)
        assert "k=2/1 (" in said(tmp_path, "add", "tiny", "loss.lambda_gp=7.5")
        assert "lies outside" in said(tmp_path, "add", "tiny", "loss.lambda_gp=7000", code=2)
    found = until(tmp_path, lambda now: now["counts"].get("pruned"))
    assert found["standing"] == "paused" and "k=2/1" in {t["name"] for t in found["open"]}
    assert process.poll() is None, "it waits, with nothing to do"
    process.kill()  # the added trial has not begun
    process.communicate()
    assert status(tmp_path)["standing"] == "stopped"
    for words in (["resume", "tiny"], ["finish", "tiny"]):
        assert "nothing runs this sweep now; its next start does it" in said(tmp_path, *words)
    done = run(tmp_path, file)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["name"]: row for row in rows(tmp_path) if row["kind"] == "trial"}
    assert {name: row["state"] for name, row in found.items()} == {"k=2/0": "pruned", "k=2/1": "complete"}
    assert float(found["k=2/1"]["loss.lambda_gp"]) == 7.5 and float(found["k=2/0"]["distortion"]) > 0
    assert found["k=2/0"]["steered"].startswith("stopped by") and found["k=2/1"]["steered"].startswith("added by")
    client, runs = mlflow_runs(uri)
    tags = {r.data.tags["name"]: r.data.tags.get("steered") for r in runs if r.data.tags.get("kind") == "trial"}
    assert tags == {name: row["steered"] for name, row in found.items()}
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(client.list_artifacts(parent.info.run_id, "steering")) == 2 * 6
    page = SweepPaths(tmp_path / "outputs" / "tiny").report.read_text()
    assert "asked while it ran" in page and "finish, by" in page
    assert status(tmp_path)["standing"] == "done" and not status(tmp_path)["asked"]
