"""Evaluations at work beside the trials that are trained: begun, waited for, ended. Knows no Ray."""

from collections.abc import Callable
from typing import Protocol

from toconv.paths import TrialPaths
from toconv.sweep.driver import Driver
from toconv.sweep.own_measure import Evaluated, keep
from toconv.sweep.proposals import Proposal


class Task(Protocol):
    """One evaluation at work."""

    def ended(self) -> bool: ...

    def failure(self) -> str | None:
        """Why one that ended kept nothing; None where it kept what it came to."""

    def cancel(self) -> None: ...


class Evaluating:
    """Hands the driver's evaluations out and tells it of their ends; waits for none."""

    def __init__(self, driver: Driver, begin: Callable[[TrialPaths], Task]) -> None:
        self._driver, self._begin = driver, begin
        self._running: list[tuple[Proposal, Task]] = []

    @property
    def busy(self) -> bool:
        return bool(self._running or self._driver.to_evaluate)

    def poll(self) -> None:
        """Raises MachineryError where what came of one cannot be kept."""
        while self._driver.to_evaluate:
            proposal = self._driver.to_evaluate.pop(0)
            self._running.append((proposal, self._begin(self._paths(proposal))))
        for proposal, task in [pair for pair in self._running if pair[1].ended()]:
            self._running.remove((proposal, task))
            if why := task.failure():
                self._keep_failure(proposal, why)
            self._driver.evaluated(proposal)

    def stop(self) -> None:
        """Those at work are done again at the next start."""
        for _, task in self._running:
            task.cancel()
        for proposal in [*self._driver.to_evaluate, *(proposal for proposal, _ in self._running)]:
            self._driver.released(proposal)
        self._running, self._driver.to_evaluate = [], []

    def _keep_failure(self, proposal: Proposal, why: str) -> None:
        asked = self._driver.evaluations.asked
        assert asked is not None  # something was evaluated
        keep(self._paths(proposal), Evaluated(key=asked.key, asked=asked.asked, failed=why, seconds=0))

    def _paths(self, proposal: Proposal) -> TrialPaths:
        return self._driver.paths.trial(proposal.trial_id)
