"""Successive halving of a cell's trials, stepped by hand on a real ledger: whatever happens to workers and driver,
the same trials are stopped at the same epochs."""

import itertools
import json
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from tests.running import write_sweep
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.evaluating import Evaluating
from toconv.sweep.file import load_sweep
from toconv.sweep.leaving import Leaving
from toconv.sweep.tune.scheduler import CellScheduler
from toconv.sweep.tune.searcher import LedgerSearcher
from toconv.training.epochs import Epoch

EPOCHS = 16
CURVES = [  # distortion by epoch of one trial after the other: rungs at 1, 2, 4 and 8 epochs
    lambda epoch: 1.0 / epoch,
    lambda epoch: 0.9 / epoch,
    lambda epoch: 1.2 / epoch,
    lambda epoch: 0.8 / epoch,
    lambda epoch: 0.7 / epoch + 0.3 * (epoch > 3),
    lambda epoch: 0.86 / epoch,
]


class Halving:
    """One trial at a time; `disturb` happens after so many epochs of each."""

    def __init__(self, folder, settings):
        self.paths = SweepPaths(folder / "outputs" / "tiny")
        self.paths.root.mkdir(parents=True)
        asked = {"early_stopping": {"after_epochs": 1, "keep": 0.5}, "trials": len(CURVES), "sampler": "random"}
        grid = {"model.compressor.output_grid_size": [2]}
        self._file = load_sweep(write_sweep(folder, {**settings, "training.epochs": EPOCHS}, grid=grid, **asked), [])
        self._ids, self.driver = itertools.count(), None
        self.start()

    def start(self):
        """A new driver, as after a kill."""
        if self.driver:
            self.driver.ledger.close()
        self.driver = Driver(self._file, self.paths, self.paths.root, "f00d")
        self.driver.slots = 1
        self._searcher = LedgerSearcher(self.driver, Evaluating(self.driver, None), lambda: None)
        self._scheduler = CellScheduler(self._searcher, Leaving(self.driver, set))

    def elsewhere(self):
        """The machine of the trial at work is drained."""
        (tunes,) = self._searcher.proposals
        self._searcher.on_trial_complete(tunes, {"outcome": json.dumps({"left": True})})

    def begin(self):
        tunes = SimpleNamespace(trial_id=f"tune's {next(self._ids)}")
        self._searcher.proposals[tunes.trial_id] = self.driver.next_proposal()
        self._scheduler.on_trial_add(None, tunes)
        return tunes

    def ended_at(self, curve, disturb=None, after=None):
        """The epoch."""
        tunes = self.begin()
        for epoch in range(1, EPOCHS + 1):
            row = Epoch(epoch, 1000 * epoch, float(epoch), {"distortion": curve(epoch), "perception": 0.1})
            trial = self.paths.trial(self._searcher.proposals[tunes.trial_id].trial_id)
            trial.folder.mkdir(parents=True, exist_ok=True)
            with trial.metrics.open("a") as file:
                file.write(row.as_line())
            told = {"outcome": json.dumps({"row": row.as_row(), "complete": epoch == EPOCHS})}
            result = {**told, "epoch": epoch, "distortion": curve(epoch)}
            decision = self._scheduler.on_trial_result(None, tunes, result)
            if decision == TrialScheduler.STOP:
                self._searcher.on_trial_complete(tunes.trial_id, result)
                return epoch
            if epoch == after:
                disturb(self)
                tunes = self.begin()
        raise AssertionError("ASHA ends a trial at its last epoch")


@pytest.fixture
def ends(tiny, tmp_path):
    """When each trial ends."""

    def run(name, disturb=None, after=None):
        halving = Halving(tmp_path / name, tiny)
        return [halving.ended_at(curve, disturb, after) for curve in CURVES]

    return run


@pytest.mark.parametrize("after", [1, 2, 3, 6])
@pytest.mark.parametrize("disturb", [Halving.start, Halving.elsewhere], ids=["driver killed", "machine drained"])
def test_trials_that_go_on_count_at_each_rung_with_what_they_had_there(ends, disturb, after):
    undisturbed = ends("undisturbed")
    assert undisturbed == [EPOCHS, EPOCHS, 1, EPOCHS, 4, 2]
    assert ends("disturbed", disturb, after) == undisturbed
