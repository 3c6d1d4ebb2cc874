"""When Tune ends a trial: at a rung of its cell's successive halving, at a stop, and once it was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from toconv.analysis.records import State
from toconv.sweep.leaving import Leaving
from toconv.sweep.tune.searcher import LedgerSearcher
from toconv.training.epochs import read_epochs

if TYPE_CHECKING:
    from toconv.sweep.proposals import Proposal


COUNTED = (State.COMPLETE, State.PRUNED, State.RUNNING)


class CellScheduler(FIFOScheduler):
    """First come, first served, with successive halving (ASHA) on distortion within each cell."""

    def __init__(self, searcher: LedgerSearcher, leaving: Leaving) -> None:
        super().__init__()
        self._searcher, self._leaving = searcher, leaving
        self._rungs: dict[str, Any] = {}
        self._reuses: bool | None = None  # workers, where no node is drained

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        proposal = self._searcher.proposals[trial.trial_id]
        if asha := self._asha(proposal):
            asha.on_trial_add(None, _known(proposal))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        proposal = self._searcher.proposals[trial.trial_id]
        if self._searcher.stopping() or proposal.trial_id in self._searcher.driver.ending:
            return TrialScheduler.STOP
        asha = self._asha(proposal)
        decision = asha.on_trial_result(None, _known(proposal), result) if asha else TrialScheduler.CONTINUE
        if decision == TrialScheduler.STOP:
            self._searcher.stopped_early.add(trial.trial_id)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A worker is not kept for the next trial while it may be on a node that goes; Tune has no switch for that."""
        if self._reuses is None:
            self._reuses = tune_controller._reuse_actors
        self._leaving.look()
        tune_controller._reuse_actors = self._reuses and not self._leaving.drained

    def _asha(self, proposal: Proposal) -> Any:
        """The rungs of the proposal's cell; finalists and extensions are never stopped early."""
        rule, cell = self._searcher.driver.sweep.file.early_stopping, proposal.cell
        if rule is None or not proposal.is_searched:
            return None
        if cell not in self._rungs:
            epochs = self._searcher.driver.sweep.base.training.epochs
            self._rungs[cell] = ASHAScheduler(
                time_attr="epoch",
                metric="distortion",
                mode="min",
                max_t=max(epochs, rule.after_epochs + 1),
                grace_period=rule.after_epochs,
                reduction_factor=1 / rule.keep,
            )
            self._replay(cell)
        return self._rungs[cell]

    def _replay(self, cell: str) -> None:
        """Fill the rungs with what trials of earlier starts reached, those that go on included: what was decided of
        them stands."""
        driver, asha = self._searcher.driver, self._rungs[cell]
        for trial in driver.ledger.trials():
            if trial.proposal.cell == cell and any(trial.is_searched(state) for state in COUNTED):
                earlier = _known(trial.proposal)
                asha.on_trial_add(None, earlier)
                for e in read_epochs(driver.paths.trial(trial.proposal.trial_id).metrics):
                    asha.on_trial_result(None, earlier, {"epoch": e.epoch, "distortion": e.metrics["distortion"]})


def _known(proposal: Proposal) -> SimpleNamespace:
    """As ASHA, which reads a trial's id alone, and no controller, knows a trial: Tune's id is another each time that a
    worker begins it."""
    return SimpleNamespace(trial_id=proposal.trial_id)
