"""A training that is asked to leave between two steps: nothing is lost, and nothing shows that it was away."""

import pytest
import torch

from toconv import checkpoint, config
from toconv.paths import TrialPaths
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.epochs import read_epochs
from toconv.training.loop import Training
from toconv.training.partial_epoch import LeftEpoch
from toconv.training.resumable import ResumableTraining

EPOCHS, LOG_EVERY = 3, 2


@pytest.fixture
def make(tiny):
    def training(**changes):
        given = {"training.log_every": LOG_EVERY, "training.batch_size": 4, "training.epochs": EPOCHS}
        settings = config.compose({**tiny, **given, **changes})
        return Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))

    return training


def after(steps):
    """To leave once so many steps were made by this process."""
    asked = iter([False] * steps)
    return lambda: next(asked, True)


def numbers(paths):
    return [(epoch.epoch, epoch.metrics) for epoch in read_epochs(paths.metrics)]


def state(path):
    found = checkpoint.load(path)
    return {key: value for key, value in found.items() if key not in {"settings", "epochs", "seconds"}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.compressor.kind": "nested", "model.compressor.grid_sizes": [2, 3]},
        {"model.critic.head": "conditional", "loss.balance": "gradient_norm"},
    ],
    ids=["conv", "nested", "conditional"],
)
def test_a_training_that_leaves_again_and_again_ends_with_the_same_bits(make, tmp_path, changes):
    whole, parts = TrialPaths(tmp_path / "whole"), TrialPaths(tmp_path / "parts")
    list(ResumableTraining.adopt(make(**changes), whole).epochs())
    steps, left = len(make().train), 0
    assert steps > LOG_EVERY + 1, "so that some leave amid what is still to be read of the losses"
    for made in [1, 2, steps, 1, steps + 1, 3]:
        try:
            list(ResumableTraining.adopt(make(**changes), parts).epochs(leave=after(made)))
        except LeftEpoch:
            left += 1
    list(ResumableTraining.adopt(make(**changes), parts).epochs())
    assert left >= 4 and numbers(parts) == numbers(whole)
    assert checkpoint.checksum(state(parts.latest)) == checkpoint.checksum(state(whole.latest))
    assert not parts.interrupted.exists()


def test_it_leaves_before_the_next_step_and_its_folder_says_how_far_it_was(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    training = make()
    steps = len(training.train)
    with pytest.raises(LeftEpoch):
        list(ResumableTraining.adopt(training, paths).epochs(leave=after(steps + 2)))
    found = checkpoint.load(paths.interrupted)
    assert found["epoch"] == 1 and found["partial"]["steps"] == 2 and found["seconds"] > 0
    assert found["schedule"]["last_epoch"] == steps + 2
    assert checkpoint.load(paths.latest)["epoch"] == 1 and "partial" not in checkpoint.load(paths.latest)


def test_seconds_count_the_part_before_it_left(make, tmp_path, monkeypatch):
    pooled = {"model.compressor.init": "pool"}  # nothing is computed once, behind a lock that reads the clock too
    paths, clock = TrialPaths(tmp_path / "run"), iter(range(0, 10_000, 10))
    monkeypatch.setattr("toconv.training.resumable.time.perf_counter", lambda: float(next(clock)))
    with pytest.raises(LeftEpoch):
        list(ResumableTraining.adopt(make(**pooled), paths).epochs(leave=after(2)))  # 10 s by this clock
    epochs = ResumableTraining.adopt(make(**pooled), paths).epochs()
    assert [next(epochs).seconds, next(epochs).seconds] == [20.0, 30.0]


def test_asked_before_its_first_step_it_leaves_nothing_behind(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    with pytest.raises(LeftEpoch):
        list(ResumableTraining.adopt(make(), paths).epochs(leave=lambda: True))
    assert not paths.interrupted.exists() and not paths.latest.exists()


@pytest.mark.parametrize("damage", ["cut", "of an epoch that is done", "of another training"])
def test_what_cannot_be_gone_on_with_costs_the_epoch_alone(make, tmp_path, damage):
    paths, whole = TrialPaths(tmp_path / "run"), TrialPaths(tmp_path / "whole")
    list(ResumableTraining.adopt(make(), whole).epochs())
    steps = len(make().train)
    other = {"training.seed": 7} if damage == "of another training" else {}
    with pytest.raises(LeftEpoch):
        list(ResumableTraining.adopt(make(**other), paths).epochs(leave=after(steps + 2)))
    content = paths.interrupted.read_bytes()
    if damage == "cut":
        paths.interrupted.write_bytes(content[:-100])
    elif damage == "of another training":
        paths.latest.unlink()
    else:
        epochs = ResumableTraining.adopt(make(), paths).epochs()
        next(epochs)
        paths.interrupted.write_bytes(content)  # as a process leaves it that dies between the two
    again = ResumableTraining.adopt(make(), paths)
    assert again.training.partial is None and bool(again.notes) is (damage != "of an epoch that is done")
    list(again.epochs())
    assert numbers(paths) == numbers(whole) and not paths.interrupted.exists()
