"""Tune's view of the ledger: hands out proposals, takes outcomes."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from toconv.errors import MachineryError, first_line
from toconv.progress import console, say
from toconv.sweep.cluster import WORKER_RETRIES
from toconv.sweep.interrupt import Interrupt
from toconv.training.epochs import Epoch

if TYPE_CHECKING:  # start-up: a worker unpickles what is of this package
    from toconv.sweep.driver import Driver
    from toconv.sweep.evaluating import Evaluating
    from toconv.sweep.proposals import Proposal


class LedgerSearcher(Searcher):
    def __init__(self, driver: Driver, evaluating: Evaluating, on_last: Callable[[], None]) -> None:
        """`on_last` is called once, at the first epoch that ends after the last trial has begun."""
        super().__init__(metric=None, mode=None)
        self.driver, self._evaluating = driver, evaluating
        self._on_last: Callable[[], None] | None = on_last
        self._last_begun = False
        self.proposals: dict[str, Proposal] = {}  # by Tune's trial id
        self.stopped_early: set[str] = set()
        self._epochs: dict[str, int] = {}  # that it has since Tune has it, where it took any
        self.broken: Exception | None = None
        self._uncopied: set[str] = set()  # what was said of machines whose copies of tokens have no room
        self.crowded: list[Proposal] = []  # those whose memory ran out there
        self.interrupt = Interrupt(self._say_interrupted)

    def _say_interrupted(self) -> None:
        if self.driver.open:
            when = "save at their next step" if self.interrupt.soon else "end their epoch and save"
            console.print(
                f"interrupted: {len(self.driver.open)} running trial(s) {when}, evaluations stop; "
                "once more stops at once"
            )

    def stopping(self) -> bool:
        """Whether nothing more is to begin, and what runs ends at its epoch."""
        return bool(self.interrupt.asked or self.broken or self.driver.budget_spent())

    @property
    def shares_gpu(self) -> bool:
        """Whether a trial has others beside it on its GPU."""
        return 0 < self.driver.spent.gpu < 1

    def check_end(self) -> None:
        """Raises what was in the way of a trial's end (MachineryError where the machinery gave way), KeyboardInterrupt
        after SIGINT and SIGTERM."""
        if self.broken:
            raise self.broken
        if self.interrupt.asked:
            raise KeyboardInterrupt

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that is not used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # as its docstring has it
        if self.stopping():
            return Searcher.FINISHED
        self._evaluating.poll()
        proposal = None
        if len(self.driver.open) < self.driver.slots:
            proposal = self.driver.next_proposal()
            self._last_begun = self.driver.left() <= len(self.driver.open)
        if proposal is None:  # Tune, which holds workers while it waits, waits for trials alone
            return None if self.proposals else Searcher.FINISHED
        self.proposals[trial_id] = proposal
        return {"inputs": asdict(self.driver.inputs(proposal))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.take(trial_id, result)

    def take(self, trial_id: str, result: dict[str, Any]) -> dict[str, Any]:
        """Tell the driver of an epoch; returns the worker's outcome."""
        outcome = json.loads(result["outcome"])
        self._say_uncopied(outcome.get("uncopied", {}))
        if self._last_begun and self._on_last:
            self._on_last()
            self._on_last = None
        if "row" in outcome:
            row = Epoch(**outcome["row"])
            self._epochs[trial_id] = row.epoch
            self.driver.progressed(self.proposals[trial_id], row)
        return outcome

    def _say_uncopied(self, uncopied: dict[str, str]) -> None:
        """Once of each machine and split."""
        for what, why in uncopied.items():
            if what not in self._uncopied:
                self._uncopied.add(what)
                say(f"{what}: {why}")

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Raises nothing: Tune would log that with its trace, and go on."""
        try:
            self._ended(trial_id, result, error)
        except Exception as why:
            self.broken = self.broken or why

    def _ended(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        proposal = self.proposals.pop(trial_id, None)
        if proposal is None:
            return
        epochs = self._epochs.pop(trial_id, None)
        if error or not result or "outcome" not in result:
            self._died(proposal, epochs)
            return
        self.proposals[trial_id] = proposal
        outcome = self.take(trial_id, result)
        del self.proposals[trial_id]
        self._enter(trial_id, proposal, self._collected(proposal, outcome))

    def _died(self, proposal: Proposal, epochs: int | None) -> None:
        """What took an epoch since it was handed out goes on, since machines may go away more often than that: what
        always dies at the same place takes none the next time."""
        if epochs is None:
            self.driver.failed(proposal, f"its worker died more than {WORKER_RETRIES} times with no epoch in between")
            return
        console.print(
            f"{proposal.name}: its worker died more than {WORKER_RETRIES} times; it goes on from epoch {epochs}"
        )
        self.driver.released(proposal)
        self.driver.begin_next(proposal)

    def _collected(self, proposal: Proposal, outcome: dict[str, Any]) -> dict[str, Any]:
        """The outcome, once what it tells of is here."""
        try:
            self.driver.collect(proposal, "failed" in outcome)
        except MachineryError as gone:
            return {"machinery": str(gone)}
        return outcome

    def _enter(self, trial_id: str, proposal: Proposal, outcome: dict[str, Any]) -> None:
        if outcome.get("infeasible") and self.shares_gpu:
            self.driver.released(proposal)
            self.crowded.append(proposal)
            console.print(f"{proposal.name}: {outcome['failed']}; it is tried once more, alone on a GPU")
        elif "failed" in outcome:
            self.driver.failed(
                proposal, outcome["failed"], outcome.get("infeasible", False), outcome.get("overdue", False)
            )
        elif "machinery" in outcome:
            self.broken = MachineryError(_named(outcome["machinery"], outcome.get("machine")))
            self.driver.released(proposal)
        elif "left" in outcome:
            self.driver.released(proposal)
            self.driver.begin_next(proposal)
        elif outcome["complete"]:
            self.driver.completed(proposal)
        elif proposal.trial_id in self.driver.ending:
            self.driver.end(proposal, self.driver.ending[proposal.trial_id])
        elif trial_id in self.stopped_early:
            self.driver.pruned(proposal)
        else:  # the budget is spent or Tune was told to stop: it goes on at the next start
            self.driver.released(proposal)

    def give_back(self, memory_ran_out: Exception) -> int:
        """Trials whose workers were ended, since a machine had no memory left, go on from their checkpoints. Returns
        how many at a time. Raises MachineryError where one was too much."""
        ended = [*self.proposals.values()]
        self.proposals.clear()
        for proposal in ended:
            self.driver.released(proposal)
        self.driver.begin_next(*ended)
        found = re.search(r"\S+ used / \S+ limit", str(memory_ran_out))
        used = found[0] if found else first_line(memory_ran_out)
        why = f"a machine's memory ran out with {len(ended)} trial(s) at work: {used}"
        if len(ended) < 2:
            raise MachineryError(why)
        left = len(ended) // 2
        console.print(f"{why}; {left} at a time go on from their checkpoints; toconv slots NAME N asks for others")
        return left

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""


def _named(why: str, machine: str | None) -> str:
    """With the machine that gave way, where it is another one."""
    return why if machine in {None, platform.node()} or str(machine) in why else f"{machine}: {why}"
