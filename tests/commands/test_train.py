"""`python train.py` as a user runs it."""

import subprocess
import sys

import pytest
from mlflow import MlflowClient

from tests.repository import REPOSITORY
from toconv.tracking.run_facts import redact
from toconv.training.epochs import read_epochs

pytestmark = pytest.mark.slow


def train(tiny, *more, cwd):
    texts = [f"{key}={'null' if value is None else value}" for key, value in tiny.items()]
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "train.py"), *texts, *more],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_training_leaves_its_checkpoints_and_one_run_and_goes_on(tiny, tmp_path):
    done = train(tiny, "training.epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "checkpoints"
    assert {p.name for p in folder.glob("*.pt")} == {"latest.pt", "best_model.pt", "checkpoint_epoch_2.pt"}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = train(tiny, "training.epochs=1", "model.compressor.output_grid_size=4", cwd=tmp_path)
    assert other.returncode == 2 and "is of another training, which reached epoch 2" in other.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    client = MlflowClient(tiny["experiment.tracking_uri"])
    (run,) = client.search_runs([client.get_experiment_by_name("toconv").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["distortion"] == read_epochs(folder / "metrics.jsonl")[-1].metrics["distortion"]
    again = train(
        {"training.epochs": 3, **{k: tiny[k] for k in tiny if k.startswith(("experiment", "data"))}},
        f"resume={folder / 'latest.pt'}",
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert [e.epoch for e in read_epochs(folder / "metrics.jsonl")] == [1, 2, 3]


def test_a_resumed_training_may_not_become_another(tiny, tmp_path):
    assert train(tiny, "training.epochs=1", cwd=tmp_path).returncode == 0
    done = train(tiny, f"resume={tmp_path}/checkpoints/latest.pt", "loss.lambda_gp=3", cwd=tmp_path)
    assert done.returncode == 2 and "loss.lambda_gp=3: the checkpoint was trained with 10.0" in done.stderr


def test_a_password_in_a_tracking_uri_is_never_shown():
    assert redact("no route to http://me:secret@host:5000/x") == "no route to http://me:***@host:5000/x"
