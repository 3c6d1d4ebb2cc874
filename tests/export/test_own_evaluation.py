"""One evaluation of a user's own: the export that a command gets, the numbers that it writes, and what goes wrong."""

import json
import os
import time
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import quick
from tests.repository import REPOSITORY
from toconv import command_group, config
from toconv.errors import EvaluationFailed
from toconv.export.own_evaluation import MOST_BYTES, evaluate, read_numbers, try_out
from toconv.paths import TrialPaths
from toconv.sweep.own_measure import OwnMeasure, evaluated
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining

WRITES = "import json, sys; nan = float('nan'); json.dump({}, open(sys.argv[2], 'w'))"


@pytest.fixture(scope="module")
def trained(tiny_encoder, photographs, tmp_path_factory, shared):
    """The folder of a trial of one epoch."""
    folder = tmp_path_factory.mktemp("evaluated")
    changes = {"data.tokens_dir": str(shared / "tokens"), "training.epochs": 1}
    settings = config.compose({**quick(tiny_encoder, photographs, folder), **changes})
    paths = TrialPaths(folder / "trial")
    list(
        ResumableTraining(Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu")), paths).epochs()
    )
    return paths


@pytest.fixture
def came(trained, tmp_path):
    """What comes of a script's evaluation."""

    def coming(script, **changes):
        (tmp_path / "mine.py").write_text(script)
        own = OwnMeasure(**{"command": "python mine.py {export} {output}", "metric": "accuracy", "gpu": 0, **changes})
        evaluate(trained, own, tmp_path)
        assert not list(trained.folder.glob("evaluation-*")), "the export goes"
        return evaluated(trained, own)

    return coming


def writes(found):
    return WRITES.format(repr(found))


def test_a_command_gets_the_compressor_and_its_numbers_are_kept(came, trained):
    script = "import json, os, sys; print(sorted(os.listdir(sys.argv[1])), os.getcwd()); " + writes(
        {"accuracy": 0.5, "f1": 1}
    )
    found = came(script)
    assert (found.metrics, found.failed) == ({"accuracy": 0.5, "f1": 1.0}, None) and found.seconds > 0
    assert trained.evaluation_log.read_text().startswith("['README.md', 'config.json', 'model.safetensors'] ")


@pytest.mark.slow
def test_a_function_gets_it_too(came):
    script = "import toconv, torch\ndef measured(export):\n    return {'accuracy': torch.tensor(toconv.load(export).k)}"
    assert came(script, command=None, function="mine:measured").metrics == {"accuracy": 3.0}
    assert came(script, command=None, function="mine:gone").failed.endswith("has no attribute 'gone'")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import sys; print('no\\nmodel'); sys.exit(3)", "ended with exit code 3: model"),
        ("import os; os.kill(os.getpid(), 9)", "ended with exit code 137 (SIGKILL), and printed nothing"),
        ("1 / 0", "ended with exit code 1: ZeroDivisionError: division by zero"),
        ("", "ended well, but wrote no file at {output}"),
        (writes({"f1": 0.5}), "wrote no accuracy, which evaluation.metric names, but f1"),
        (writes({"accuracy": "high"}), "accuracy: input should be a valid number, is 'high'"),
        (writes({"accuracy": True}), "accuracy: input should be a valid number, is True"),
        (writes({"accuracy": float("nan")}), "accuracy: input should be a finite number"),
        (writes({"accuracy": [1]}), "accuracy: input should be a valid number, is [1]"),
        (writes({"accuracy": 1, "distortion": 2}), "distortion: is a name of toconv's own in results.csv"),
        (writes({"accuracy": 1, "a/b": 2}), "a/b: must be a letter or _"),
    ],
)
def test_what_gives_no_numbers_says_why(came, script, told):
    found = came(script)
    assert told in found.failed and not found.metrics


def test_numbers_that_are_of_no_use_stand_in_the_log(came, trained):
    came("print('said'); " + writes({"accuracy": "high"}))
    assert trained.evaluation_log.read_text() == 'said\n\nwritten at {output}:\n{"accuracy": "high"}\n'


def test_what_takes_too_long_is_ended(came, monkeypatch, trained):
    log = trained.evaluation_log
    log.unlink(missing_ok=True)

    def clock():
        """Stands still until the script has begun; its time is over then."""
        return time.monotonic() + 3600 if log.exists() and log.read_text() else 0.0

    monkeypatch.setattr(command_group, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(command_group, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('begun', flush=True); time.sleep(600)"
    assert came(script, timeout_minutes=0.02).failed == "had not ended after 0.02 minutes (evaluation.timeout_minutes)"
    assert log.read_text() == "begun\n"


def test_an_evaluation_that_was_killed_leaves_nothing_for_the_next(came, trained):
    (trained.folder / "evaluation-killed").mkdir()
    (trained.folder / "evaluation-killed" / "model.safetensors").touch()
    assert came(writes({"accuracy": 1})).metrics == {"accuracy": 1}


def test_a_trial_without_a_checkpoint_says_so(tmp_path):
    own = OwnMeasure(command="true {export} {output}", metric="accuracy")
    (tmp_path / "trial").mkdir()
    evaluate(TrialPaths(tmp_path / "trial"), own, tmp_path)
    assert "latest.pt: no such checkpoint" in evaluated(TrialPaths(tmp_path / "trial"), own).failed


def test_without_a_sweep_it_is_tried_out_and_raises_what_failed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(writes({"accuracy": 0.25}))
    own = OwnMeasure(command="python mine.py {export} {output}", metric="accuracy")
    try_out(trained, own)
    (tmp_path / "mine.py").write_text("1 / 0")
    with pytest.raises(EvaluationFailed, match="evaluation: ended with exit code 1: ZeroDivisionError"):
        try_out(trained, own)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "EOF while parsing"),
        (b"accuracy: 1", "Invalid JSON"),
        (b"[0.5]", "input should be an object"),
        (b"0.5", "input should be an object"),
        (b"[" * 100_000, "Invalid JSON"),
        (b'{"accuracy": 1' + b"0" * 400 + b"}", "accuracy: "),
        (b'{"accuracy": Infinity}', "accuracy: "),
        (b'{"\xff": 1}', "Invalid JSON"),
        (b" " * MOST_BYTES + b"{}", f"wrote more than {MOST_BYTES} bytes"),
    ],
)
def test_what_is_no_flat_object_of_numbers_is_refused(tmp_path, content, told):
    (tmp_path / "output.json").write_bytes(content)
    with pytest.raises(EvaluationFailed) as refused:
        read_numbers(tmp_path / "output.json")
    assert told.lower() in str(refused.value).lower()


def test_a_folder_or_a_pipe_in_its_place_is_no_output(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(EvaluationFailed, match="wrote no file"):
            read_numbers(path)


@pytest.mark.slow
def test_the_example_of_a_llava_with_random_weights_runs(trained):
    own = OwnMeasure(
        command="python examples/tiny_llava.py {export} {output}", metric=["logit_cosine", "same_answer"], gpu=0
    )
    evaluate(trained, own, REPOSITORY)
    found = evaluated(trained, own)
    assert found.failed is None and 0 <= found.metrics["same_answer"] <= 1 and 0 < found.metrics["logit_cosine"] < 1
    assert json.loads(trained.evaluation.read_text())["found"]["asked"] == own.command
