"""`python train.py` as a user runs it."""

import pytest
import torch
from mlflow import MlflowClient

from tests.forked import Forked
from tests.repository import REPOSITORY
from toconv import checkpoint, config
from toconv.redaction import redact
from toconv.training.epochs import read_epochs

pytestmark = pytest.mark.slow


def train(tiny, *more, cwd):
    texts = [f"{key}={'null' if value is None else value}" for key, value in tiny.items()]
    return Forked(cwd, REPOSITORY / "train.py", [*texts, *more]).completed(120)


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
    assert redact("no route to http://me:secret@host:5000/x") == "no route to http://***@host:5000/x"


@pytest.mark.parametrize("kind", ["half", "text", "derived", "missing", "of other tokens"])
def test_a_checkpoint_that_is_none_of_this_training_is_a_wrong_request(tiny, tmp_path, monkeypatch, kind, capsys):
    """In this process: `toconv train` up to its refusal."""
    from toconv.__main__ import main

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    if kind == "text":
        path.write_text("no checkpoint")
    elif kind == "derived":
        checkpoint.save(path, {"matrix": torch.eye(2)})
    elif kind != "missing":
        settings = config.compose(tiny).model_dump(mode="json")
        checkpoint.save(path, {"settings": settings, "store": {"fingerprint": "f00d"}})
        if kind == "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    texts = [f"{key}={value}" for key, value in tiny.items()]
    assert main(["train", *texts, f"resume={path}"]) == 2
    told = capsys.readouterr().err
    assert str(path) in told and "to go on" not in told
    assert not list((tmp_path / "tokens").rglob("*.fp16"))


def test_a_folder_that_cannot_be_written_is_refused_before_the_tokens(tiny, tmp_path, monkeypatch, capsys):
    from toconv.__main__ import main

    monkeypatch.chdir(tmp_path)
    texts = [f"{key}={value}" for key, value in tiny.items()]
    assert main(["train", *texts, "experiment.checkpoint_dir=/proc/x", "data.tokens_dir=/dev/null/t"]) == 2
    told = capsys.readouterr()
    assert "experiment.checkpoint_dir=/proc/x: cannot be written" in told.err and "data.tokens_dir" in told.err
    assert "MLflow: sqlite:///" in told.out and "(experiment.tracking_uri)" in told.out
