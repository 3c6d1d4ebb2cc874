"""`python train.py` as a user runs it."""

import signal
import time

import psutil
import pytest
import torch
from mlflow import MlflowClient

from tests.forked import Forked
from tests.pasting import pasted
from tests.repository import REPOSITORY
from toconv import checkpoint, config
from toconv.redaction import redact
from toconv.training.epochs import read_epochs

pytestmark = pytest.mark.slow


LONG = {"training.batch_size": 1, "training.n_critic": 40}  # epochs of seconds, of 24 steps


def start(tiny, *more, cwd):
    texts = [f"{key}={'null' if value is None else value}" for key, value in tiny.items()]
    return Forked(cwd, REPOSITORY / "train.py", [*texts, *more])


def train(tiny, *more, cwd):
    return start(tiny, *more, cwd=cwd).completed(120)


def worked(process):
    """Seconds of CPU time: of an epoch they are the same however busy the machine is."""
    spent = psutil.Process(process.pid).cpu_times()
    return spent.user + spent.system


def within_an_epoch(process, folder, epochs, seconds=0.0):
    """Waits until so many epochs are done, and the next one has worked for so long. Returns what was worked by then."""
    while not (folder / "metrics.jsonl").exists() or len(read_epochs(folder / "metrics.jsonl")) < epochs:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    before = worked(process)
    while worked(process) - before < seconds:
        time.sleep(0.02)
    return worked(process)


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


def test_sigterm_within_an_epoch_saves_at_the_next_step_and_the_printed_command_ends_with_the_same_bits(tiny, tmp_path):
    whole = {**tiny, **LONG, "training.epochs": 2, "experiment.checkpoint_dir": tmp_path / "whole"}
    process = start(whole, cwd=tmp_path)
    begun, over = (within_an_epoch(process, tmp_path / "whole", epochs) for epochs in (0, 1))
    assert process.completed(120).returncode == 0
    undisturbed, folder = read_epochs(tmp_path / "whole" / "metrics.jsonl"), tmp_path / "checkpoints"
    process = start({**whole, "experiment.checkpoint_dir": folder}, cwd=tmp_path)
    reached = []
    for epochs in (0, 1):
        within_an_epoch(process, folder, epochs, (over - begun) / 4)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(120)
        assert process.returncode == 130 and f"saved after epoch {epochs} and " in stdout, stdout + stderr
        kept = checkpoint.load(folder / "interrupted.pt")
        reached.append((kept["epoch"], 0 < kept["partial"]["steps"] < 24))
        how = pasted(stderr.splitlines()[-1].removeprefix("to go on: "))
        assert how[-1] == f"resume={folder / 'interrupted.pt'}"
        process = Forked(tmp_path, how[1], how[2:])
    done = process.completed(120)
    assert done.returncode == 0 and "going on after epoch 1 and " in done.stdout, done.stdout + done.stderr
    assert reached == [(0, True), (1, True)] and not (folder / "interrupted.pt").exists()
    found = read_epochs(folder / "metrics.jsonl")
    assert [(epoch.epoch, epoch.metrics) for epoch in found] == [(e.epoch, e.metrics) for e in undisturbed]


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
    monkeypatch.setenv("TOCONV_CACHE", "/proc/x")
    texts = [f"{key}={value}" for key, value in tiny.items()]
    assert (
        main(
            [
                "train",
                *texts,
                "experiment.checkpoint_dir=/proc/x",
                "data.tokens_dir=/dev/null/t",
                "store.local_cache_gb=1",
            ]
        )
        == 2
    )
    told = capsys.readouterr()
    assert "store.local_cache_gb=1: /proc/x/token-copies cannot be written" in told.err
    assert "experiment.checkpoint_dir=/proc/x: cannot be written" in told.err and "data.tokens_dir" in told.err
    assert "MLflow: sqlite:///" in told.out and "(experiment.tracking_uri)" in told.out
