"""The ledger of trials.

Optuna's storage is the one source of truth for which trials exist and how they ended; the driver alone writes to it. A
proposal is drawn in memory from the ledger's history by a sampler that is seeded by the cell and the trial's number,
never by the process, and enters the ledger whole, in one transaction: a trial is either there with all its parameters
or not there."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from toconv.analysis.records import State
from toconv.errors import RequestError, told
from toconv.sweep.constraints import violations
from toconv.sweep.feasible import by_rule, listed
from toconv.sweep.file import Cell, Sweep
from toconv.sweep.inbox import Note
from toconv.sweep.proposals import Proposal, Trial
from toconv.sweep.search.glance import FINALISTS, Facts
from toconv.sweep.search.glance import STATES as BY_NAME
from toconv.sweep.search.sampling import REDRAWS, Sampling
from toconv.sweep.search.storage import ledger_errors, storage
from toconv.sweep.space import Params

optuna.logging.set_verbosity(optuna.logging.ERROR)
REFUSED = "refused"  # of a trial: how many draws before it the settings refused, by what they said
FAILURES_PER_CELL = 3  # failed trials are drawn anew so often, then the cell is given up
OVERDUE_PER_CELL = 1  # of those whose time was over so many are drawn anew
FEWEST = 4  # complete trials of a cell that importances are told of
OPTUNA_STATES = {ours: TrialState[theirs] for theirs, ours in BY_NAME.items()}
OF_NO_USE = (  # Optuna's warnings at each reading of a trial: lists come back from its storage as what they were
    "Choices for a categorical distribution should be",
    "The distribution is specified by",  # a step that ends below high, as `Distribution.values` does
)
STATES = {theirs: ours for ours, theirs in OPTUNA_STATES.items()}


class Ledger:
    """One Optuna study a cell, named `<sweep>/<cell>`, and one for finalists, in one storage."""

    def __init__(self, sweep: Sweep, path: Path | None, identify: Callable[[Mapping[str, Any]], str]) -> None:
        """`identify` gives the trial_id of parameters. The storage is made if it is not there; None: in memory."""
        for message in OF_NO_USE:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        self.sweep, self._identify = sweep, identify
        self._objectives = dict(sweep.file.objectives)
        self._cells = {cell.name: cell for cell in sweep.cells()}
        self._storage = storage(path)
        names = list(self._cells)
        if sweep.file.finalists or self._has(FINALISTS):  # those of an earlier start count, asked for again or not
            names.append(FINALISTS)
        self._studies = {name: self._study(path, name) for name in names}
        self._exhausted: set[str] = set()
        self._sampling = Sampling(sweep, [t for name in self._cells for t in self._trials(name)])

    def _has(self, name: str) -> bool:
        with ledger_errors("read"):
            return any(s.study_name == f"{self.sweep.file.name}/{name}" for s in self._storage.get_all_studies())

    def _study(self, path: Path | None, name: str) -> optuna.Study:
        with ledger_errors("opened"):
            name, directions = f"{self.sweep.file.name}/{name}", list(self._objectives.values())
            try:
                return optuna.create_study(
                    storage=self._storage, study_name=name, directions=directions, load_if_exists=True
                )
            except ValueError as error:
                raise RequestError(
                    f"{path}: holds a study with other objectives ({error}); choose another name="
                ) from error

    def trials(self) -> list[Trial]:
        """Every trial, cell by cell, in the order of their numbers; finalists last. One that is run again is there
        once, as it stands now."""
        with ledger_errors("read"):
            found = [self._as_trial(name, t) for name in self._studies for t in self._trials(name)]
        return [*{t.proposal.trial_id: t for t in found}.values()]

    def trial(self, proposal: Proposal) -> Trial:
        study = _study_of(proposal)
        return self._as_trial(study, self._trials(study)[proposal.number])

    def open_proposals(self) -> list[Proposal]:
        """Trials that began and have not ended: an earlier driver was stopped."""
        return [t.proposal for t in self.trials() if not t.ended]

    def missing(self, cell: str) -> int:
        """How many trials the cell still has to begin, failed ones drawn anew within their cap. Those that somebody
        skipped do not count to it, nor those that are run again."""
        last = {(facts := Facts.model_validate(t.user_attrs)).trial_id: (t.state, facts) for t in self._trials(cell)}
        failed = [facts for state, facts in last.values() if state is TrialState.FAIL]
        if cell in self._exhausted or sum(not facts.skipped for facts in failed) > FAILURES_PER_CELL:
            return 0
        overdue = max(0, sum(facts.overdue for facts in failed) - OVERDUE_PER_CELL)  # hours each
        return max(0, self.sweep.file.trials - (len(last) - len(failed) + overdue))

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

    def propose_asked(self, cell: Cell, given: Params, note: Note) -> Proposal | None:
        """A trial of the cell with these values, whatever it has already; what is not given is drawn. None where the
        sweep has every such trial. Raises RequestError where the settings refuse them."""
        return self._draw(cell, given, note)

    def run_again(self, trial: Trial, note: Note) -> Proposal:
        """A trial that failed, as a new one of the same id: Optuna keeps the one that failed too."""
        study, proposal = _study_of(trial.proposal), trial.proposal
        with ledger_errors("read"):
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
        refused: Counter[str] = Counter()
        number, repeated, sampling = len(history), 0, self._sampling
        asked = given is not None
        points = sampling.points_with(cell, history, refused, given) if given is not None else None
        for point, system in points or sampling.points(cell, history, refused):
            params = {**cell.fixed, **point}
            try:
                trial_id = self._identify(params)
            except RequestError as error:
                refused[error.mistakes[0]] += 1
                continue
            if trial_id not in taken:
                self._enter_point(cell, point, system, {"trial_id": trial_id, **_told(refused), **_steered(note)})
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

    def refused(self) -> Counter[str]:
        """How many draws the settings refused before each trial, by what they said."""
        counts = (t.user_attrs.get(REFUSED, {}) for name in self._cells for t in self._trials(name))
        return by_rule(sum(map(Counter, counts), Counter()))

    def _enter(self, study: str, trial: FrozenTrial) -> None:
        with ledger_errors("written"):
            self._studies[study].add_trial(trial)

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
        return {"steered": [*_notes(self._trials(_study_of(proposal))[proposal.number]), note.model_dump(mode="json")]}

    def _tell(
        self,
        proposal: Proposal,
        state: State,
        values: list[float] | None = None,
        missed: Mapping[str, float] = {},
        **facts: Any,
    ) -> None:
        """`missed`: by how much bounds are, where Optuna's samplers read it (`Trial.set_constraint`)."""
        study = self._studies[_study_of(proposal)]
        with ledger_errors("written"):
            storage, id_ = study._storage, study.get_trials(deepcopy=False)[proposal.number]._trial_id
            for key, value in ((key, value) for key, value in facts.items() if value is not None):
                storage.set_trial_user_attr(id_, key, value)
            for key, excess in missed.items():
                storage.set_trial_system_attr(id_, f"constraints:{key}", excess)
            storage.set_trial_state_values(id_, OPTUNA_STATES[state], values)

    def _trials(self, study: str) -> list[FrozenTrial]:
        with ledger_errors("read"):
            return self._studies[study].get_trials(deepcopy=False)

    def _as_trial(self, study: str, trial: FrozenTrial) -> Trial:
        try:
            facts = Facts.model_validate(trial.user_attrs)
        except ValidationError as error:
            raise ValueError(f"trial {trial.number} of {study}: {told(error)}") from None
        cell = facts.cell or study
        params = facts.params or {**self._cells[cell].fixed, **trial.params}
        proposal = Proposal(cell, trial.number, facts.trial_id, params, facts.finalist_of)
        values = dict(zip(self._objectives, trial.values or [], strict=False))
        return Trial(proposal, STATES[trial.state], values, facts.reason, facts.seal, facts.steered)

    def importances(self) -> dict[str, dict[str, float]]:
        """{cell: {setting: share of the first objective's variance}} (fANOVA), where there are enough trials."""
        found = {}
        for name in self._cells if self.sweep.file.search else ():
            study, fanova = self._studies[name], optuna.importance.FanovaImportanceEvaluator
            if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) >= FEWEST:
                with warnings.catch_warnings(), suppress(RuntimeError, ValueError):  # no variance to share out
                    warnings.simplefilter("ignore")
                    found[name] = optuna.importance.get_param_importances(
                        study, target=lambda t: t.values[0], evaluator=fanova(seed=0)
                    )
        return found


def _told(refused: Counter[str]) -> dict[str, Any]:
    return {REFUSED: dict(by_rule(refused))} if refused else {}


def _steered(note: Note | None) -> dict[str, Any]:
    return {"steered": [note.model_dump(mode="json")]} if note else {}


def _notes(trial: FrozenTrial) -> list[dict[str, Any]]:
    return list(trial.user_attrs.get("steered", ()))


def import_fanova(trials: int) -> None:
    """Import what `Ledger.importances` needs for so many trials and Optuna puts off: scikit-learn, two seconds."""
    if trials >= FEWEST:
        optuna.importance.FanovaImportanceEvaluator()


def _study_of(proposal: Proposal) -> str:
    return FINALISTS if proposal.finalist_of else proposal.cell
