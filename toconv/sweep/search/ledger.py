"""The ledger of trials.

Optuna's storage is the one source of truth for which trials exist and how they ended; the driver alone writes to it. A
proposal is drawn in memory from the ledger's history by a sampler that is seeded by the cell and the trial's number,
never by the process, and enters the ledger whole, in one transaction: a trial is either there with all its parameters
or not there."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from toconv.analysis.records import State
from toconv.errors import RequestError
from toconv.sweep.constraints import violations
from toconv.sweep.feasible import by_rule, listed
from toconv.sweep.file import Cell, Sweep
from toconv.sweep.growth import Identify
from toconv.sweep.inbox import Note
from toconv.sweep.proposals import Proposal, Trial
from toconv.sweep.search.glance import EXTENDED, FINALISTS, NO_CELLS, Facts
from toconv.sweep.search.glance import STATES as BY_NAME
from toconv.sweep.search.hypervolume import course
from toconv.sweep.search.importances import importances
from toconv.sweep.search.ledger_place import LedgerPlace
from toconv.sweep.search.sampling import MOST_REFUSED, REDRAWS, REFUSED_POINTS, Sampling
from toconv.sweep.search.storage import ledger_errors
from toconv.sweep.search.studies import Studies
from toconv.sweep.space import Params
from toconv.sweep.stopping import Course
from toconv.validation import broken_rule

REFUSED = "refused"  # of a trial: how many draws before it the settings refused, by what they said
FAILURES_PER_CELL = 3  # failed trials are drawn anew so often, then the cell is given up
OVERDUE_PER_CELL = 1  # of those whose time was over so many are drawn anew
OPTUNA_STATES = {ours: TrialState[theirs] for theirs, ours in BY_NAME.items()}
STATES = {theirs: ours for ours, theirs in OPTUNA_STATES.items()}


class Ledger:
    """One Optuna study a cell, named `<sweep>/<cell>`, and one for finalists, in one storage."""

    def __init__(self, sweep: Sweep, place: LedgerPlace | None, identify: Identify, writes: bool = True) -> None:
        """`identify` gives the trial_id of parameters. The storage is made if it is not there; None: in memory.
        Who does not write reads a database beside its driver."""
        self.sweep, self.place, self._identify = sweep, place, identify
        self._objectives = dict(sweep.file.objectives)
        self._cells = {cell.name: cell for cell in sweep.cells()}
        wanted = [*self._cells, FINALISTS] if sweep.file.finalists else [*self._cells]
        self._studies = Studies(sweep.file.name, place, self._objectives, wanted, writes)
        self._trials, self._enter = self._studies.trials, self._studies.add
        self._exhausted: set[str] = set()
        self._ended_facts = dict[tuple[str, int], Facts]()  # of trials that have ended, which stay as they are
        self._ended = dict[tuple[str, int], Trial]()
        self._courses: dict[str, tuple[int, Course | None]] = {}  # by cell: of so many complete trials
        self._sampling = Sampling(sweep, [t for name in self._cells for t in self._trials(name)])

    def trials(self) -> list[Trial]:
        """Every trial, cell by cell, in the order of their numbers; NO_CELLS last. One that is run again is there
        once, as it stands now."""
        with ledger_errors("read", self.place):
            found = [self._as_trial(name, t) for name, t in self.kept()]
        return [*{t.proposal.trial_id: t for t in found}.values()]

    def kept(self) -> list[tuple[str, FrozenTrial]]:
        """Every trial as Optuna has it, with the name of its study; NO_CELLS last."""
        return [(name, trial) for name in self._names() for trial in self._trials(name)]

    def fixed(self, study: str) -> Params:
        """What a cell enumerates; nothing of what is no cell, or none any more."""
        return dict(self._cells[study].fixed) if study in self._cells else {}

    def take(self, study: str, trial: FrozenTrial) -> None:
        """One of another ledger, as it is."""
        self._enter(study, trial)

    def close(self) -> None:
        self._studies.close()

    def _names(self) -> list[str]:
        return sorted(self._studies, key=lambda name: NO_CELLS.get(name, 0))

    def trial(self, proposal: Proposal) -> Trial:
        study = proposal.study
        return self._as_trial(study, self._trials(study)[proposal.number])

    def open_proposals(self) -> list[Proposal]:
        """Trials that began and have not ended: an earlier driver was stopped."""
        return [t.proposal for t in self.trials() if not t.ended]

    def missing(self, cell: str) -> int:
        """How many trials the cell still has to begin, failed ones drawn anew within their cap. Those that somebody
        skipped do not count to it, nor those that are run again."""
        last = {(facts := self._facts(cell, t)).trial_id: (t.state, facts) for t in self._trials(cell)}
        failed = [facts for state, facts in last.values() if state is TrialState.FAIL]
        if (
            cell in self._exhausted
            or self.has_enough(cell)
            or sum(not facts.skipped for facts in failed) > FAILURES_PER_CELL
        ):
            return 0
        overdue = max(0, sum(facts.overdue for facts in failed) - OVERDUE_PER_CELL)  # hours each
        return max(0, self.sweep.file.trials - (len(last) - len(failed) + overdue))

    def has_enough(self, cell: str) -> bool:
        """By `stop_when` of the sweep file."""
        asked = self.sweep.file.stop_when
        return asked is not None and (found := self.course(cell)) is not None and found.is_enough(asked)

    def course(self, cell: str) -> Course | None:
        """Of the hypervolume that `stop_when` goes by; None where that is not asked for, or too few are complete."""
        asked = self.sweep.file.stop_when
        if asked is None:
            return None
        trials = self._trials(cell)
        complete = sum(t.state is TrialState.COMPLETE for t in trials)
        if self._courses.get(cell, (-1, None))[0] != complete:
            self._courses[cell] = complete, course(trials, self._objectives, asked.over_trials)
        return self._courses[cell][1]

    def propose(self, running: Mapping[str, int]) -> Proposal | None:
        """A new trial in the cell that has the fewest, or None where every cell is full. `running` counts open trials
        by cell and breaks ties, so that cells fill evenly."""
        short = {name: self.missing(name) for name in self._cells}
        for name in sorted((n for n in short if short[n]), key=lambda n: (-short[n], running.get(n, 0))):
            proposal = self._draw(self._cells[name])
            if proposal is not None:
                return proposal
            self._exhausted.add(name)
        return None

    def propose_finalist(self, of: Proposal, changes: Mapping[str, Any]) -> Proposal | None:
        """The trial `of` once more with `changes`, or None where the ledger has that already."""
        params = {**of.params, **changes}
        trial_id, taken = self._identify(params), {t.proposal.trial_id for t in self.trials()}
        if trial_id in taken:
            return None
        facts = {"trial_id": trial_id, "params": params, "cell": of.cell, "finalist_of": of.trial_id}
        number = len(self._trials(FINALISTS))
        self._enter(FINALISTS, create_trial(state=TrialState.RUNNING, user_attrs=facts))
        return Proposal(of.cell, number, trial_id, params, of.trial_id)

    def propose_extended(self, asked: Proposal, note: Note) -> Proposal:
        """Enter an extension that is new to the sweep; its number is the ledger's."""
        named = {key: getattr(asked, key) for key in ("trial_id", "params", "cell", "extends", "from_epoch")}
        number = len(self._trials(EXTENDED))
        self._enter(EXTENDED, create_trial(state=TrialState.RUNNING, user_attrs={**named, **_steered(note)}))
        return replace(asked, number=number)

    def learn(self, learnt: Mapping[str, Sequence[FrozenTrial]]) -> None:
        """Tell the sampler of trials of earlier studies, by cell, before the sweep's own."""
        self._sampling.learnt = learnt

    def propose_asked(self, cell: Cell, given: Params, note: Note) -> Proposal | None:
        """A trial of the cell with these values, whatever it has already; what is not given is drawn. None where the
        sweep has every such trial. Raises RequestError where the settings refuse them."""
        return self._draw(cell, given, note)

    def run_again(self, trial: Trial, note: Note) -> Proposal:
        """A trial that failed, as a new one of the same id: Optuna keeps the one that failed too."""
        study, proposal = trial.proposal.study, trial.proposal
        with ledger_errors("read", self.place):
            failed = self._trials(study)[proposal.number]
            number = len(self._trials(study))
        facts = {key: value for key, value in failed.user_attrs.items() if key != "reason"}
        facts["steered"] = [*_notes(failed), note.model_dump(mode="json")]
        given: dict[str, Any] = {"params": failed.params, "distributions": failed.distributions}
        self._enter(study, create_trial(state=TrialState.RUNNING, user_attrs=facts, **given))
        return replace(proposal, number=number)

    def _draw(self, cell: Cell, given: Params | None = None, note: Note | None = None) -> Proposal | None:
        """Draw until the settings take the configuration and it is new to the sweep, then enter it. None where the
        space is exhausted. Raises RequestError where the settings refused every draw of a cell, or of what is given."""
        taken, history = {t.proposal.trial_id for t in self.trials()}, self._trials(cell.name)
        refused, infeasible = Counter[str](), deque[Params](maxlen=MOST_REFUSED)
        number, repeated, sampling = len(history), 0, self._sampling
        asked, turn = given is not None, sampling.start(history)
        points = sampling.points_with(cell, history, refused, given) if given is not None else None
        for point, system in points or sampling.points(cell, history, refused):
            params = {**cell.fixed, **point}
            try:
                trial_id = self._identify(params)
            except RequestError as error:
                refused[error.mistakes[0]] += 1
                infeasible.append(point)
                continue
            if trial_id not in taken:
                facts = {"trial_id": trial_id, **_told(refused, infeasible), **_steered(note)}
                if turn and not asked:
                    facts["began_with"] = turn[0]
                self._enter_point(cell, point, system, facts)
                return Proposal(cell.name, number, trial_id, params)
            repeated += 1
            if repeated == REDRAWS and not sampling.is_whole:
                return None
        if refused and not repeated and (asked or not number):
            rules = listed(by_rule(refused))
            raise RequestError(
                f"cell {cell.name}: all of {refused.total()} draws are refused ({rules}); narrow the space"
            )
        return None

    def _enter_point(self, cell: Cell, point: Params, system: dict[str, Any], facts: dict[str, Any]) -> None:
        given: dict[str, Any] = {"params": point, "distributions": self._sampling.distributions(point)}
        self._enter(cell.name, create_trial(state=TrialState.RUNNING, user_attrs=facts, system_attrs=system, **given))

    def importances(self) -> dict[str, dict[str, float]]:
        """{cell: {setting: share}}, of cells that have trials enough: `importances.importances`."""
        cells = self._cells if self.sweep.file.search else ()
        found = {name: importances(self._trials(name), self._objectives) for name in cells}
        return {name: shares for name, shares in found.items() if shares is not None}

    def refused(self) -> Counter[str]:
        """How many draws the settings refused before each trial, by what they said."""
        counts = (t.user_attrs.get(REFUSED, {}) for name in self._studies for t in self._trials(name))
        return by_rule(sum(map(Counter, counts), Counter()))

    def complete(self, proposal: Proposal, metrics: Mapping[str, float], seal: Mapping[str, str] | None = None) -> None:
        """Enter the final values, and the `seal` of the files that hold them. Raises MachineryError where the ledger
        cannot be written."""
        values = [float(metrics[name]) for name in self._objectives]
        if not all(map(math.isfinite, values)):
            self.fail(proposal, f"objectives are not finite: {dict(zip(self._objectives, values, strict=True))}")
            return
        missed = violations(self.sweep.file.constraints, metrics)
        self._tell(proposal, State.COMPLETE, values, missed, seal=seal)

    def prune(
        self, proposal: Proposal, epoch: int, seal: Mapping[str, str] | None = None, note: Note | None = None
    ) -> None:
        reason = f"{note.says}, after epoch {epoch}" if note else None
        self._tell(proposal, State.PRUNED, epoch=epoch, seal=seal, reason=reason, **self._noted(proposal, note))

    def fail(
        self, proposal: Proposal, reason: str, infeasible: bool = False, overdue: bool = False, note: Note | None = None
    ) -> None:
        """`infeasible`: it can never run with these parameters on this machine, for example for its memory; `overdue`:
        its time was over."""
        facts: dict[str, Any] = {"reason": reason, "infeasible": infeasible, "overdue": overdue or None}
        self._tell(proposal, State.FAILED, **facts, **self._noted(proposal, note))

    def _noted(self, proposal: Proposal, note: Note | None) -> dict[str, Any]:
        if note is None:
            return {}
        return {"steered": [*_notes(self._trials(proposal.study)[proposal.number]), note.model_dump(mode="json")]}

    def _tell(
        self,
        proposal: Proposal,
        state: State,
        values: list[float] | None = None,
        missed: Mapping[str, float] = {},
        **facts: Any,
    ) -> None:
        known = {key: value for key, value in facts.items() if value is not None}
        self._studies.tell(proposal.study, proposal.number, OPTUNA_STATES[state], values, known, missed)

    def _facts(self, study: str, trial: FrozenTrial) -> Facts:
        if (known := self._ended_facts.get((study, trial.number))) is not None:
            return known
        try:
            facts = Facts.model_validate(trial.user_attrs)
        except ValidationError as error:
            raise ValueError(f"trial {trial.number} of {study}: {broken_rule(error)}") from None
        if trial.state.is_finished():
            self._ended_facts[study, trial.number] = facts
        return facts

    def _as_trial(self, study: str, trial: FrozenTrial) -> Trial:
        if (known := self._ended.get((study, trial.number))) is not None:
            return known
        facts = self._facts(study, trial)
        cell = facts.cell or study
        params = facts.params or {**self.fixed(cell), **trial.params}
        again = facts.finalist_of, facts.extends, facts.from_epoch
        proposal = Proposal(cell, trial.number, facts.trial_id, params, *again)
        values = dict(zip(self._objectives, trial.values or [], strict=False))
        found = Trial(proposal, STATES[trial.state], values, facts.reason, facts.seal, facts.steered)
        if found.ended:
            self._ended[study, trial.number] = found
        return found


def _told(refused: Counter[str], points: Iterable[Params]) -> dict[str, Any]:
    return {REFUSED: dict(by_rule(refused)), REFUSED_POINTS: [*points]} if refused else {}


def _steered(note: Note | None) -> dict[str, Any]:
    return {"steered": [note.model_dump(mode="json")]} if note else {}


def _notes(trial: FrozenTrial) -> list[dict[str, Any]]:
    return list(trial.user_attrs.get("steered", ()))
