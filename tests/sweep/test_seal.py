"""What is final stays as it was: real files of a real, tiny training."""

import shutil
import sqlite3

import pytest
import torch

from tests.running import write_sweep
from toconv.errors import SealBroken
from toconv.paths import SweepPaths, TrialPaths
from toconv.sweep import seal as seal_module
from toconv.sweep import trial_files
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.seal import FINISHED, differences, finish, intact, seal
from toconv.sweep.trial_files import drop_checkpoints, take_over
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.epochs import read_epochs
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def swept(tiny, tmp_path, kept):
    """A sweep's folder with two complete trials of a cell, one of them with its checkpoints, and how to open it."""
    tiny = {**tiny, "data.tokens_dir": str(kept / "tokens"), "training.epochs": 2}
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    sweep = load_sweep(
        write_sweep(tmp_path, tiny, grid={"model.compressor.output_grid_size": [2]}, baselines=False), []
    )
    store = prepare_store(sweep.base)

    def opened():
        return Driver(sweep, paths, store, store.name)

    driver = opened()
    while proposal := driver.next_proposal():
        trial, made = paths.trial(proposal.trial_id), kept / proposal.trial_id
        if not made.exists():
            training = Training(sweep.settings(proposal.params), TokenStore(store), torch.device("cpu"))
            list(ResumableTraining(training, TrialPaths(made)).epochs())
        shutil.copytree(made, trial.folder)
        for epoch in read_epochs(trial.metrics):
            driver.progressed(proposal, epoch)
        driver.completed(proposal)
    trials = [paths.trial(t.proposal.trial_id) for t in driver.ledger.trials()]
    return opened, *sorted(trials, key=lambda trial: not trial.latest.exists())


def last_number(text):
    return text.replace('"distortion": 0.', '"distortion": 0.0')


ALTERATIONS = {
    "a number": lambda one, other: one.metrics.write_text(last_number(one.metrics.read_text())),
    "deleted": lambda one, other: one.metrics.unlink(),
    "truncated": lambda one, other: one.metrics.write_text(one.metrics.read_text().splitlines()[0] + "\n"),
    "another trial's": lambda one, other: shutil.copy(other.metrics, one.metrics),
    "appended": lambda one, other: one.metrics.open("a").write(one.metrics.read_text().splitlines()[-1] + "\n"),
    "settings": lambda one, other: one.config.write_text(one.config.read_text() + "\n"),
    "a checkpoint": lambda one, other: one.latest.write_bytes(one.latest.read_bytes()[:-100]),
    "another's checkpoint": lambda one, other: shutil.copy(other.latest, one.latest),
    "another's best": lambda one, other: shutil.copy(other.latest, one.best),
}


def test_a_finished_trial_that_was_altered_is_named_and_no_other(swept, kept):
    opened, one, other = swept
    assert len(opened().records()) == 2
    whole = shutil.copytree(one.folder, one.folder.with_name("whole"))
    for alter in ALTERATIONS.values():
        alter(one, TrialPaths(kept / other.folder.name))
        with pytest.raises(SealBroken, match=f"{one.folder}.*Put back what .* or choose another name=") as told:
            opened()
        assert str(other.folder) not in str(told.value) and told.value.exit_code == 4
        shutil.rmtree(one.folder)
        shutil.copytree(whole, one.folder)
    opened()


def test_without_a_seal_nothing_is_compared_but_an_end_without_an_epoch_is(swept):
    opened, one, _ = swept
    with sqlite3.connect(opened().paths.study) as ledger:
        assert ledger.execute("delete from trial_user_attributes where key = 'seal'").rowcount == 2
    one.metrics.write_text(last_number(one.metrics.read_text()))
    assert len(opened().records()) == 2
    one.metrics.write_text("")
    with pytest.raises(SealBroken, match="holds no epoch"):
        opened()


def test_a_trial_is_taken_over_only_as_it_was(swept):
    """By a sweep of another name beside it; a mark of version 0.1 has no seal and counts as before."""
    _, one, _ = swept
    assert intact(one) and differences(one, seal(one)) == []
    for text, expected in (
        (FINISHED, True),
        (FINISHED + '{"metrics.jsonl": "0"}\n', False),
        ("", False),
        ("[[", False),
    ):
        one.finished.write_text(text)
        assert intact(one) is expected
    finish(one)
    one.metrics.write_text(last_number(one.metrics.read_text()))
    assert not intact(one)


def test_checkpoints_that_a_driver_drops_while_others_look_are_no_alteration(swept, monkeypatch):
    opened, one, _ = swept
    glance = seal_module.checkpoint.glance

    def dropped(path, parts):
        drop_checkpoints(one)
        return glance(path, parts)

    monkeypatch.setattr(seal_module.checkpoint, "glance", dropped)
    assert len(one.checkpoints()) > 1 and len(opened().records()) == 2 and not one.checkpoints()


def test_checkpoints_that_are_dropped_while_their_trial_is_taken_over_are_left_out(swept, monkeypatch):
    _, one, _ = swept
    beside, link = SweepPaths(one.folder.parents[2] / "beside"), trial_files.link

    def dropped(source, target):
        drop_checkpoints(one)
        link(source, target)

    monkeypatch.setattr(trial_files, "link", dropped)
    taken = beside.trial(one.folder.name)
    assert take_over(beside, one.folder.name) and intact(taken) and not taken.checkpoints()


@pytest.mark.parametrize("where", [(seal_module, "sha256"), (trial_files.shutil, "copyfile")])
def test_a_trial_that_is_removed_while_it_is_taken_over_is_trained(swept, where, monkeypatch):
    _, one, _ = swept
    beside, does = SweepPaths(one.folder.parents[2] / "beside"), getattr(*where)

    def removed(*paths):
        shutil.rmtree(one.folder, ignore_errors=True)
        return does(*paths)

    monkeypatch.setattr(*where, removed)
    assert not take_over(beside, one.folder.name) and not beside.trial(one.folder.name).finished.exists()


def test_a_ledger_that_says_something_else_than_the_sealed_files_is_named(swept):
    opened, one, _ = swept
    study = SweepPaths(one.folder.parent.parent).study
    with sqlite3.connect(study) as ledger:
        ledger.execute("update trial_values set value = 0.001 where objective = 0")
    with pytest.raises(SealBroken, match=r"study.db: has distortion=0.001, was 0\.\d+ \(trial"):
        opened()
