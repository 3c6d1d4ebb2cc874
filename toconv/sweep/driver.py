"""What the driver knows of a sweep: its trials, their results, and who is to be told. Knows no Ray."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from toconv.analysis.pareto import costs, nondominated
from toconv.analysis.records import State, TrialRecord
from toconv.analysis.results import write_results
from toconv.object_store import ObjectStore
from toconv.paths import SweepPaths
from toconv.settings import SEED, TEST
from toconv.sweep.budget import Spent
from toconv.sweep.evaluations import Evaluations
from toconv.sweep.extending import kept_for_more_epochs
from toconv.sweep.file import Sweep
from toconv.sweep.inbox import Act, Note
from toconv.sweep.proposals import Proposal, Trial
from toconv.sweep.recording import Recording
from toconv.sweep.remote_trials import collect_trial, drop_trial
from toconv.sweep.seal import check_seals, finish, seal
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.ledger_place import recorded_place
from toconv.sweep.trainable import TrialInputs, trial_inputs
from toconv.sweep.trial_files import drop_checkpoints, take_over
from toconv.tracking.delivery import BackgroundTracker
from toconv.training.epochs import Epoch, read_epochs
from toconv.training.identity import trial_id


class Driver:
    """Hands out proposals, takes results, keeps ledger, tracking and results.csv in step."""

    def __init__(self, sweep: Sweep, paths: SweepPaths, store: Path, fingerprint: str, writes: bool = True) -> None:
        """Who does not write the ledger reads it beside the driver that does."""
        self.sweep, self.paths, self.store = sweep, paths, store
        self._fingerprint = fingerprint
        self._identities: dict[str, str] = {}
        self.ledger = Ledger(sweep, recorded_place(paths), self.identify, writes)
        self.evaluations = Evaluations(sweep.file, paths)
        self._recording = Recording(sweep, paths, self.evaluations, self.ledger.trials())
        check_seals(paths, self.ledger.trials(), self.evaluations)
        late = self.evaluations.late(self.ledger.trials())
        self.late = [p for p in late if self.paths.trial(p.trial_id).latest.exists()]  # to be evaluated, and complete
        self.out_of_reach = len(late) - len(self.late)  # complete, without numbers and without a checkpoint
        self.to_evaluate: list[Proposal] = []  # handed out and trained, for `evaluating` to take
        self._adopted = self.ledger.open_proposals()
        self.adopted = len(self._adopted)
        self._without = set[str]()  # the trial_ids whose checkpoints have gone
        self.handed_out = 0  # trials and evaluations, by this start
        self.taken_over = 0  # trials whose results were there before they were asked for
        self.open: dict[str, Proposal] = {}  # by trial_id, handed out and not ended
        self.slots = 1  # trials and evaluations at a time
        self.paused: Note | None = None  # while nothing is to begin, who asked for it
        self.finishing: Note | None = None  # once no trial is to be drawn any more
        self.ending: dict[str, Note] = {}  # by trial_id, what is to end after its epoch: stopped or skipped
        self.on_first_failure: Callable[[str, str], None] | None = None  # told the trial's name and the reason
        self.latest = self._last_epochs()  # the latest epoch of each trial that ran
        self.spent = Spent(paths.spent, sweep.file.resources.gpu)
        self.baselines: list[TrialRecord] = []
        self.tracker: BackgroundTracker | None = None

    def _last_epochs(self) -> dict[str, Epoch]:
        ids = [t.proposal.trial_id for t in self.ledger.trials()]
        return {known: epochs[-1] for known in ids if (epochs := read_epochs(self.paths.trial(known).metrics))}

    def identify(self, params: Mapping[str, Any], extends: str | None = None) -> str:
        """The trial_id of these parameters, of a training that begins at the end of the trial that it `extends`."""
        key = json.dumps([dict(params), extends], sort_keys=True)
        if key not in self._identities:
            self._identities[key] = trial_id(self.sweep.settings(params), self._fingerprint, extends)
        return self._identities[key]

    def planned(self) -> int:
        """Trials and finalists of the whole sweep, as far as they are known: those that have begun, failed ones with
        those in their place, and those to come."""
        trials = self.ledger.trials()
        drawn = Counter(t.proposal.cell for t in trials if t.state is not State.FAILED and t.proposal.is_searched)
        to_draw = (min(self.missing(cell), wanted - drawn[cell]) for cell, wanted in self.sweep.planned.items())
        return len(trials) + sum(max(0, count) for count in to_draw) + len(self._finalists_to_come())

    def missing(self, cell: str) -> int:
        """How many trials of the cell are still to be drawn."""
        return 0 if self.finishing else self.ledger.missing(cell)

    def left(self) -> int:
        """How many trials, finalists and evaluations have not ended, as far as they are known."""
        missing = sum(self.missing(cell.name) for cell in self.sweep.cells())
        return missing + len(self._finalists_to_come()) + len(self._adopted) + len(self.open) + len(self.late)

    def can_begin(self) -> bool:
        """Whether something is left to begin, and a slot is free for it."""
        return not self.paused and len(self.open) < self.slots and self.left() > len(self.open)

    def next_proposal(self) -> Proposal | None:
        """A trial to run: unfinished ones first, finalists last. None where nothing is to begin now, and where
        something was handed out to be evaluated instead."""
        if self.paused:
            return None
        if self.late:
            self._hand_out(self.late[0])
            self.to_evaluate.append(self.late.pop(0))
            return None
        while proposal := self._unfinished() or self._finalist():
            self._hand_out(proposal)
            if not self._take_over(proposal):
                return proposal
            self.completed(proposal)
            if proposal.trial_id in self.open:
                return None
        return None

    def _hand_out(self, proposal: Proposal) -> None:
        self.handed_out += 1
        self._without.discard(proposal.trial_id)
        self.open[proposal.trial_id] = proposal
        self.spent.began(proposal.trial_id)

    def _unfinished(self) -> Proposal | None:
        if self._adopted:
            return self._adopted.pop(0)
        return None if self.finishing else self.ledger.propose(Counter(p.cell for p in self.open.values()))

    def _take_over(self, proposal: Proposal) -> bool:
        if not take_over(self.paths, proposal.trial_id):
            return False
        self.latest[proposal.trial_id] = read_epochs(self.paths.trial(proposal.trial_id).metrics)[-1]
        self.taken_over += 1
        return True

    def _finalist(self) -> Proposal | None:
        begun = (self.ledger.propose_finalist(of, changes) for of, changes in self._finalists_to_come())
        return next(filter(None, begun), None)

    def _finalists_to_come(self) -> list[tuple[Proposal, dict[str, Any]]]:
        """The front once more with fresh seeds, once every search is at its end."""
        asked, trials = self.sweep.file.finalists, self.ledger.trials()
        missing = any(self.missing(cell.name) for cell in self.sweep.cells())
        if asked is None or missing or any(t.is_searched(State.RUNNING) for t in trials):
            return []
        best, there = self.front(trials), {t.proposal.trial_id for t in trials}
        fresh = [{SEED: self.sweep.base.training.seed + i, TEST: True} for i in range(1, asked.seeds + 1)]
        pairs = [(t.proposal, changes) for t in trials if t.proposal.trial_id in best for changes in fresh]
        return [(of, changes) for of, changes in pairs if self.identify({**of.params, **changes}) not in there]

    def front(self, trials: Sequence[Trial]) -> set[str]:
        """The trial_ids of the search's front."""
        objectives, complete = self.sweep.file.objectives, (t for t in trials if t.is_searched(State.COMPLETE))
        points = ((t.proposal, costs(self.sweep.tokens(t.proposal.params), t.values, objectives)) for t in complete)
        return nondominated({proposal.trial_id: point for proposal, point in points})

    def _recommended(self, trials: Sequence[Trial]) -> set[str]:
        """The trial_ids of `analysis.pareto.recommended`; the front need not have them, whatever its objectives are."""
        complete = [t.proposal for t in trials if t.is_searched(State.COMPLETE) and t.proposal.trial_id in self.latest]
        best: dict[int, str] = {}
        for proposal in sorted(complete, key=lambda p: self.latest[p.trial_id].metrics["distortion"]):
            best.setdefault(self.sweep.tokens(proposal.params), proposal.trial_id)
        return set(best.values())

    def inputs(self, proposal: Proposal) -> TrialInputs:
        of, epoch = proposal.extends, proposal.from_epoch
        extends = (str(self.paths.trial(of).latest), epoch) if of and epoch else None
        return trial_inputs(self.sweep, proposal.params, self.store, self.paths.trial(proposal.trial_id), extends)

    def progressed(self, proposal: Proposal, epoch: Epoch) -> None:
        self.latest[proposal.trial_id] = epoch
        self.spent.save()
        self._track(self.ledger.trial(proposal))

    def collect(self, proposal: Proposal, failed: bool) -> None:
        """Have here what a trial that ended has left on the disk of another machine. Raises MachineryError."""
        if self.remote:
            last, paths = self.latest.get(proposal.trial_id), self.paths.trial(proposal.trial_id)
            collect_trial(self.remote, paths, last.epoch if last else 0, failed)

    @cached_property
    def remote(self) -> ObjectStore | None:
        return ObjectStore.asked(self.sweep.base.store)

    def completed(self, proposal: Proposal) -> None:
        """Its last epoch is done: enter it, or have it evaluated first."""
        finish(self.paths.trial(proposal.trial_id))
        if self.evaluations.lacks(proposal):
            self.to_evaluate.append(proposal)
        else:
            self._complete(proposal)

    def evaluated(self, proposal: Proposal) -> None:
        """Its evaluation has ended. Without an objective's value a trial failed; any other is as good as before."""
        found = self.evaluations.found(proposal.trial_id, anew=True)
        if self.ledger.trial(proposal).ended:
            self._ended(proposal)
        elif self.sweep.file.own_objectives and (found is None or found.failed):
            self.failed(proposal, f"evaluation: {found.failed if found else 'nothing was kept of it'}")
        else:
            self._complete(proposal)

    def _complete(self, proposal: Proposal) -> None:
        found = self.evaluations.found(proposal.trial_id)
        metrics = {**self.latest[proposal.trial_id].metrics, **(found.metrics if found else {})}
        sealed = seal(self.paths.trial(proposal.trial_id))
        self.ledger.complete(proposal, {**metrics, "tokens": self.sweep.tokens(proposal.params)}, sealed)
        self._ended(proposal)

    def pruned(self, proposal: Proposal, note: Note | None = None) -> None:
        """Stopped early, by `note` where somebody asked for it; what it has reached stays."""
        epoch, sealed = self.latest[proposal.trial_id].epoch, seal(self.paths.trial(proposal.trial_id))
        self.ledger.prune(proposal, epoch, sealed, note)
        self._ended(proposal)

    def failed(self, proposal: Proposal, reason: str, infeasible: bool = False, overdue: bool = False) -> None:
        self.ledger.fail(proposal, reason, infeasible, overdue)
        self._ended(proposal)

    def end(self, proposal: Proposal, note: Note) -> None:
        """Stop or skip it now, on somebody's request."""
        self._adopted = [waiting for waiting in self._adopted if waiting != proposal]
        if note.act is Act.STOP:
            self.pruned(proposal, note)
        else:
            self.ledger.fail(proposal, note.says, note=note)
            self._ended(proposal)

    def waits(self, proposal: Proposal) -> bool:
        """Whether it is begun in the ledger, and not handed out by this start."""
        return proposal in self._adopted

    def begin_next(self, *proposals: Proposal) -> None:
        """Those are in the ledger already."""
        self._adopted[:0] = proposals

    def released(self, proposal: Proposal) -> None:
        """Stopped without a verdict: the trial stays open in the ledger, and goes on by this start or the next."""
        self.open.pop(proposal.trial_id, None)
        self.spent.ended(proposal.trial_id)

    def budget_spent(self) -> str | None:
        """Which budget is spent, if one is."""
        return self.spent.over(self.sweep.file.budget)

    def _ended(self, proposal: Proposal) -> None:
        self.released(proposal)
        self.ending.pop(proposal.trial_id, None)
        trials = self.ledger.trials()
        self._tell_failure(proposal, trials)
        dropped = self._drop_checkpoints(trials)
        for trial in trials:
            if trial.proposal.trial_id in {proposal.trial_id, *dropped}:
                self._track(trial)

    def _tell_failure(self, ended: Proposal, trials: Sequence[Trial]) -> None:
        failed = [t for t in trials if t.state is State.FAILED and not t.skipped]
        if self.on_first_failure and [t.proposal for t in failed] == [ended]:
            self.on_first_failure(ended.name, failed[0].reason or "")

    def _drop_checkpoints(self, trials: Sequence[Trial]) -> set[str]:
        """Checkpoints stay for the front, for what is recommended, for what may be evaluated later and for whatever
        runs. Returns whose went."""
        due = {t.proposal.trial_id for t in trials if t.ended and not self.evaluations.keeps_checkpoint(t)}
        due -= self.front(trials) | self._recommended(trials) | kept_for_more_epochs(trials)
        dropped = set[str]()
        for paths in map(self.paths.trial, sorted(due - self._without)):
            if paths.checkpoints():
                if self.remote:
                    drop_trial(self.remote, paths)
                drop_checkpoints(paths)
                dropped.add(paths.folder.name)
        self._without |= due
        return dropped

    def _track(self, trial: Trial) -> None:
        if self.tracker:
            self.tracker.submit(self._recording.of(trial))

    def records(self) -> list[TrialRecord]:
        """Every trial, then every finalist, then every baseline."""
        return self._recording.all(self.ledger.trials(), self.baselines)

    def write_results(self, run_ids: Mapping[str, str]) -> None:
        write_results(self.paths.results, self.records(), run_ids, self._recording.columns)
