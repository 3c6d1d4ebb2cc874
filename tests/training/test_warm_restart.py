"""A training that begins at the end of another one, its schedule begun anew."""

import math

import pytest
import torch

from toconv import config
from toconv.errors import CheckpointError
from toconv.paths import TrialPaths
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.epochs import read_epochs
from toconv.training.identity import trial_id
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining
from toconv.training.warm_restart import Extended

FIRST, WHOLE = 2, 5  # epochs


@pytest.fixture
def make(tiny):
    def training(epochs):
        settings = config.compose({**tiny, "training.epochs": epochs, "training.warmup_fraction": 0.2})
        return Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))

    return training


@pytest.fixture
def ended(make, tmp_path):
    paths = TrialPaths(tmp_path / "first")
    list(ResumableTraining(make(FIRST), paths).epochs())
    return Extended(paths.latest, FIRST)


def extend(training, folder, extended):
    return ResumableTraining.adopt(training, TrialPaths(folder), extended)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_it_begins_with_the_networks_and_epochs_of_the_other_ones_end(make, ended, tmp_path):
    training = make(WHOLE)
    extend(training, tmp_path / "longer", ended)
    first = make(FIRST)
    ResumableTraining.adopt(first, TrialPaths(ended.checkpoint.parent))
    assert all(same(getattr(training, part), getattr(first, part)) for part in ("compressor", "decoder", "critic"))
    assert training.epoch == FIRST
    assert read_epochs(tmp_path / "longer" / "metrics.jsonl") == read_epochs(
        ended.checkpoint.with_name("metrics.jsonl")
    )


def test_its_learning_rate_is_that_of_a_training_of_the_epochs_that_are_left(make, ended, tmp_path):
    training, rates = make(WHOLE), []
    resumable = extend(training, tmp_path / "longer", ended)
    step = training.step

    def noted(*batch):
        rates.append(training.optimizer.param_groups[0]["lr"])
        return step(*batch)

    training.step = noted
    assert [epoch.epoch for epoch in resumable.epochs()] == [3, 4, 5]
    steps, peak = (WHOLE - FIRST) * len(training.train), training.settings.training.learning_rate
    warmup = round(steps * 0.2)
    plain = [
        peak * ((n + 1) / (warmup + 1) if n < warmup else (1 + math.cos(math.pi * (n - warmup) / (steps - warmup))) / 2)
        for n in range(steps)
    ]
    assert rates == pytest.approx(plain)
    assert [epoch.epoch for epoch in read_epochs(tmp_path / "longer" / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert FIRST < training.best_epoch <= WHOLE and (tmp_path / "longer" / "best_model.pt").exists()


def test_stopped_and_resumed_it_ends_with_the_same_bits(make, ended, tmp_path):
    whole, parts = make(WHOLE), make(WHOLE)
    list(extend(whole, tmp_path / "whole", ended).epochs())
    next(extend(make(WHOLE), tmp_path / "parts", ended).epochs())
    ended.checkpoint.unlink()  # it is needed no more
    list(extend(parts, tmp_path / "parts", ended).epochs())
    assert same(whole.compressor, parts.compressor) and same(whole.decoder, parts.decoder)
    metrics = [[e.metrics for e in read_epochs(tmp_path / name / "metrics.jsonl")] for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]


def test_the_end_of_another_epoch_or_none_is_refused(make, ended, tmp_path):
    with pytest.raises(CheckpointError, match="is of epoch 2, must be of 3"):
        extend(make(WHOLE), tmp_path / "longer", Extended(ended.checkpoint, 3))
    ended.checkpoint.unlink()
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        extend(make(WHOLE), tmp_path / "longer", ended)


def test_its_identity_is_that_of_no_training_from_the_start(make):
    settings = make(WHOLE).settings
    names = [trial_id(settings, "f00d", of) for of in (None, "1a2b", "3c4d")]
    assert len({*names}) == 3 and trial_id(settings, "f00d") == names[0]
