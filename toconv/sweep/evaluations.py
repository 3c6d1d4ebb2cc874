"""Which trials of a sweep its own evaluation is for, and what came of it, read from their folders."""

from toconv.analysis.records import State
from toconv.paths import SweepPaths
from toconv.sweep.own_measure import Evaluated, evaluated
from toconv.sweep.proposals import Proposal, Trial
from toconv.sweep.schema import SweepFile


class Evaluations:
    """Of the section `evaluation` of a sweep file; of none, nothing is wanted."""

    def __init__(self, file: SweepFile, paths: SweepPaths) -> None:
        self.asked, self._objectives, self._paths = file.evaluation, file.own_objectives, paths
        self._found: dict[str, Evaluated | None] = {}  # by trial_id

    def found(self, trial_id: str, anew: bool = False) -> Evaluated | None:
        """What is kept of a trial; `anew`: as it is on the disk now."""
        if self.asked is None:
            return None
        if anew or trial_id not in self._found:
            self._found[trial_id] = evaluated(self._paths.trial(trial_id), self.asked)
        return self._found[trial_id]

    def wanted(self, proposal: Proposal) -> bool:
        return self.asked is not None and (self.asked.on == "trials" or proposal.finalist_of is not None)

    def lacks(self, proposal: Proposal) -> bool:
        """Whether it is to be evaluated, and has no numbers yet: one that failed is tried again at the next start."""
        found = self.found(proposal.trial_id)
        return self.wanted(proposal) and (found is None or found.failed is not None)

    def late(self, trials: list[Trial]) -> list[Proposal]:
        """Complete trials that lack their numbers: the section is new, or another one, or their evaluation failed.
        Objectives are in the ledger, and stay."""
        if self._objectives:
            return []
        return [t.proposal for t in trials if t.state is State.COMPLETE and self.lacks(t.proposal)]

    def keeps_checkpoint(self, trial: Trial) -> bool:
        """Whether a later start may evaluate it: finalists, if the section is another one by then, and what failed."""
        proposal, found = trial.proposal, self.found(trial.proposal.trial_id)
        failed = found is not None and found.failed is not None
        complete = trial.state is State.COMPLETE and (self.lacks(proposal) or proposal.finalist_of is not None)
        return self.wanted(proposal) and (failed or complete)

    def metrics(self, trial: Trial) -> dict[str, float]:
        """Of a complete trial; objectives as the ledger has them."""
        if trial.state is not State.COMPLETE or not self.wanted(trial.proposal):
            return {}
        found = self.found(trial.proposal.trial_id)
        return {**(found.metrics if found else {}), **{name: trial.values[name] for name in self._objectives}}

    def failure(self, trial: Trial) -> str | None:
        """Why a complete trial has no numbers, where its evaluation failed."""
        found = self.found(trial.proposal.trial_id)
        return found.failed if found and trial.state is State.COMPLETE and self.wanted(trial.proposal) else None
