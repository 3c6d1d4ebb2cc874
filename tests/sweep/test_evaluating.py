"""A sweep with the user's own evaluation, from its file to results.csv, killed on the way."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import empty_mlflow
from tests.running import epochs_of, mlflow_runs, optuna_trials, run, start, trial_rows, write_sweep

SCRIPT = """
import json, os, sys, time
open("begun", "a").write(f"{os.getpid()}\\n")
while not os.path.exists("go"):
    time.sleep(0.05)
json.dump({"accuracy": 0.25, "f1": 0.5}, open(sys.argv[2], "w"))
"""


def begun(folder):
    """The processes of all evaluations so far."""
    return (folder / "begun").read_text().split() if (folder / "begun").exists() else []


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(done, seconds=120):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_sweep_that_is_killed_in_an_evaluation_trains_nothing_twice_and_evaluates_the_rest(
    overrides, tmp_path, ledger_in
):
    (tmp_path / "my_eval.py").write_text(SCRIPT)
    own = {"command": "python my_eval.py {export} {output}", "metric": "accuracy", "on": "trials"}
    asked = {"objectives": {"distortion": "minimize", "accuracy": "maximize"}, "evaluation": own}
    grid = {"grid": {"model.compressor.output_grid_size": [2]}}
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow())
    settings = {**overrides[1], "experiment.tracking_uri": uri}
    file = write_sweep(tmp_path, settings, **asked, **grid, **ledger_in, name="evaluated")
    killed = start(tmp_path, file)
    until(lambda: begun(tmp_path) or killed.poll() is not None)
    assert begun(tmp_path), killed.communicate()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(60)
    until(lambda: not is_alive(begun(tmp_path)[0]), 60)
    (tmp_path / "go").touch()
    done = run(tmp_path, file)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = trial_rows(tmp_path, "evaluated")
    assert [(r["state"], r["accuracy"], r["f1"]) for r in rows] == [("complete", "0.25", "0.5")] * 2
    assert len(begun(tmp_path)) == 3, "the one that was killed is done again, the other one once"
    for row in rows:
        folder = tmp_path / "outputs" / "evaluated" / "trials" / row["trial_id"]
        assert epochs_of(folder) == [1, 2, 3] and (folder / "evaluation.json").exists()
    assert [t.values[1] for t in optuna_trials(tmp_path, "evaluated")] == [0.25, 0.25]
    _, runs = mlflow_runs(uri, "evaluated")
    found = [r.data.metrics.get("accuracy") for r in runs if r.data.tags.get("kind") == "trial"]
    assert found == [0.25, 0.25]
    page = (tmp_path / "outputs" / "evaluated" / "report.html").read_text()
    assert "Tokens against your own measure" in page and "python my_eval.py {export} {output}" in page
