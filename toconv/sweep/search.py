"""Proposals, and the ledger of trials. The only module that knows Optuna.

Optuna's storage is the one source of truth for which trials exist and how they ended; the driver
alone writes to it. A proposal is drawn in memory from the ledger's history by a sampler that is
seeded by the cell and the trial's number, never by the process, and enters the ledger whole, in
one transaction: a trial is either there with all its parameters or not there.
"""

from __future__ import annotations

import hashlib
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from toconv.errors import MachineryError, RequestError, ToconvError
from toconv.sweep.space import Distribution, points
from toconv.sweep.spec import FINALISTS, Cell, Sweep

optuna.logging.set_verbosity(optuna.logging.ERROR)
REDRAWS = 32  # draws that repeat a configuration before a cell counts as exhausted
FAILURES_PER_CELL = 3  # failed trials are drawn anew so often, then the cell is given up
LOCK_SECONDS = 120  # that a ledger which another process has locked is waited for


class State(Enum):
    """How a trial stands; Optuna's name on the right."""

    RUNNING = TrialState.RUNNING
    COMPLETE = TrialState.COMPLETE
    PRUNED = TrialState.PRUNED
    FAILED = TrialState.FAIL


@dataclass(frozen=True)
class Proposal:
    """A trial of the ledger: who it is and what it tries."""

    cell: str
    number: int  # within its study
    trial_id: str
    params: Mapping[str, Any]  # searched settings and grid axes
    finalist_of: str | None = None  # the trial_id whose settings a finalist runs with another seed

    @property
    def name(self) -> str:
        return f"{FINALISTS if self.finalist_of else self.cell}/{self.number}"


@dataclass(frozen=True)
class Entry:
    """A trial of the ledger as it stands."""

    proposal: Proposal
    state: State
    values: Mapping[str, float]  # by objective; complete trials only
    reason: str | None
    epoch: int | None  # the epoch that a pruned trial reached


class Ledger:
    """One Optuna study a cell, named `<sweep>/<cell>`, and one for finalists, in one storage."""

    def __init__(self, sweep: Sweep, path: Path | None, identify: Callable[[Mapping[str, Any]], str]) -> None:
        """`identify` gives the trial_id of parameters. The storage is made if it is not there; None: in memory."""
        self.sweep, self._identify = sweep, identify
        self._objectives = dict(sweep.file.objectives)
        self._cells = {cell.name: cell for cell in sweep.cells()}
        self._space = {key: _distribution(d) for key, d in sweep.file.search.items()}
        self._storage = _storage(path)
        names = list(self._cells)
        if sweep.file.finalists or self._has(FINALISTS):  # those of an earlier start count, asked for again or not
            names.append(FINALISTS)
        self._studies = {name: self._study(path, name) for name in names}
        self._exhausted: set[str] = set()

    def _has(self, name: str) -> bool:
        with _ledger_errors("read"):
            return any(s.study_name == f"{self.sweep.file.name}/{name}" for s in self._storage.get_all_studies())

    def _study(self, path: Path | None, name: str) -> optuna.Study:
        with _ledger_errors("opened"):
            try:
                return optuna.create_study(
                    storage=self._storage, study_name=f"{self.sweep.file.name}/{name}",
                    directions=list(self._objectives.values()), load_if_exists=True)
            except ValueError as error:
                raise RequestError(
                    f"{path}: holds a study with other objectives ({error}); choose another name=") from error

    def entries(self) -> list[Entry]:
        """Every trial, cell by cell, in the order of their numbers; finalists last."""
        return [self._entry(name, t) for name in self._studies for t in self._trials(name)]

    def entry(self, proposal: Proposal) -> Entry:
        study = _study_of(proposal)
        return self._entry(study, self._trials(study)[proposal.number])

    def open_proposals(self) -> list[Proposal]:
        """Trials that began and have not ended: an earlier driver was stopped."""
        return [e.proposal for e in self.entries() if e.state is State.RUNNING]

    def missing(self, cell: str) -> int:
        """How many trials the cell still has to begin, failed ones drawn anew within their cap."""
        states = [t.state for t in self._trials(cell)]
        failed = states.count(TrialState.FAIL)
        if cell in self._exhausted or failed > FAILURES_PER_CELL:
            return 0
        return max(0, self.sweep.file.trials - (len(states) - failed))

    def propose(self, running: Mapping[str, int]) -> Proposal | None:
        """A new trial in the cell that has the fewest, or None where every cell is full.

        `running` counts open trials by cell and breaks ties, so that cells fill evenly.
        """
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
        trial_id, taken = self._identify(params), {e.proposal.trial_id for e in self.entries()}
        if trial_id in taken:
            return None
        facts = {"trial_id": trial_id, "params": params, "cell": of.cell, "finalist_of": of.trial_id}
        number = len(self._trials(FINALISTS))
        self._enter(FINALISTS, create_trial(state=TrialState.RUNNING, user_attrs=facts))
        return Proposal(of.cell, number, trial_id, params, of.trial_id)

    def _draw(self, cell: Cell) -> Proposal | None:
        """Draw until the configuration is new to the sweep, then enter it. None where the space is exhausted."""
        taken, number = {e.proposal.trial_id for e in self.entries()}, len(self._trials(cell.name))
        drawn = self._grid(cell) if self.sweep.file.sampler == "grid" else self._asked(cell)
        for point, system in drawn:
            params = {**cell.fixed, **point}
            trial_id = self._identify(params)
            if trial_id not in taken:
                self._enter(cell.name, create_trial(
                    state=TrialState.RUNNING, params=point, user_attrs={"trial_id": trial_id}, system_attrs=system,
                    distributions={key: self._space[key] for key in point}))
                return Proposal(cell.name, number, trial_id, params)
        return None

    def _grid(self, cell: Cell) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Points to start with, then every point of the cell in an order of its own, so that few are spread out."""
        found = list(points(self.sweep.file.search, self.sweep.known(cell)))
        random.Random(_seed(cell.name)).shuffle(found)
        starts = self.sweep.file.start_with
        found.sort(key=lambda point: next((i for i, s in enumerate(starts) if s.items() <= point.items()), len(starts)))
        return ((point, {}) for point in found)

    def _asked(self, cell: Cell) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """REDRAWS points by the sampler, each with what the sampler wants to remember of it."""
        history = self._trials(cell.name)
        shadow = optuna.create_study(directions=list(self._objectives.values()))
        shadow.add_trials(history)
        for point in self.sweep.file.start_with[len(history):len(history) + 1]:
            shadow.enqueue_trial(point)
        for attempt in range(REDRAWS):
            shadow.sampler = self._sampler(cell.name, len(history), attempt)
            trial, point = self._ask(shadow, cell)
            yield point, shadow.get_trials(deepcopy=False)[-1].system_attrs
            shadow.tell(trial, state=TrialState.FAIL)

    def _ask(self, shadow: optuna.Study, cell: Cell) -> tuple[optuna.Trial, dict[str, Any]]:
        """The sampler's next point. Conditional settings are asked for one by one, and only where they count."""
        space = self.sweep.file.search
        if not any(d.when for d in space.values()):
            trial = shadow.ask(self._space)
            return trial, trial.params
        trial, known, drawn = shadow.ask(), self.sweep.known(cell), {}
        for key, distribution in space.items():
            if distribution.active({**known, **drawn}):
                drawn[key] = _suggest(trial, key, distribution)
        return trial, drawn

    def _enter(self, study: str, trial: FrozenTrial) -> None:
        with _ledger_errors("written"):
            self._studies[study].add_trial(trial)

    def _sampler(self, cell: str, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        seed = _seed(cell, number, attempt)
        kind = self.sweep.file.sampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if kind == "tpe":
                many = len(self._objectives) > 1
                return optuna.samplers.TPESampler(seed=seed, multivariate=not many, constant_liar=not many)
            if kind == "gp":
                return optuna.samplers.GPSampler(seed=seed)
            if kind == "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed)
            return optuna.samplers.RandomSampler(seed=seed)

    def complete(self, proposal: Proposal, metrics: Mapping[str, float]) -> None:
        """Enter the final values. Raises MachineryError where the ledger cannot be written."""
        values = [float(metrics[name]) for name in self._objectives]
        if not all(map(math.isfinite, values)):
            self.fail(proposal, f"objectives are not finite: {dict(zip(self._objectives, values, strict=True))}")
            return
        self._tell(proposal, State.COMPLETE, values=values)

    def prune(self, proposal: Proposal, epoch: int) -> None:
        self._tell(proposal, State.PRUNED, epoch=epoch)

    def fail(self, proposal: Proposal, reason: str, infeasible: bool = False) -> None:
        """`infeasible`: it can never run with these parameters on this machine, for example for its memory."""
        self._tell(proposal, State.FAILED, reason=reason, infeasible=infeasible)

    def _tell(self, proposal: Proposal, state: State, values: list[float] | None = None, **facts: Any) -> None:
        study = self._studies[_study_of(proposal)]
        with _ledger_errors("written"):
            storage, id_ = study._storage, study.get_trials(deepcopy=False)[proposal.number]._trial_id
            for key, value in facts.items():
                storage.set_trial_user_attr(id_, key, value)
            storage.set_trial_state_values(id_, state.value, values)

    def _trials(self, study: str) -> list[FrozenTrial]:
        with _ledger_errors("read"):
            return self._studies[study].get_trials(deepcopy=False)

    def _entry(self, study: str, trial: FrozenTrial) -> Entry:
        facts = trial.user_attrs
        cell = facts.get("cell", study)
        params = facts.get("params") or {**self._cells[cell].fixed, **trial.params}
        proposal = Proposal(cell, trial.number, facts["trial_id"], params, facts.get("finalist_of"))
        values = dict(zip(self._objectives, trial.values or [], strict=False))
        return Entry(proposal, State(trial.state), values, facts.get("reason"), facts.get("epoch"))

    def importances(self) -> dict[str, dict[str, float]]:
        """{cell: {setting: share of the first objective's variance}} (fANOVA), where there are enough trials."""
        found = {}
        for name, study in ((name, self._studies[name]) for name in self._cells):
            finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if len(finished) >= 4 and self._space:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        found[name] = optuna.importance.get_param_importances(
                            study, target=lambda t: t.values[0],
                            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
                    except (RuntimeError, ValueError):  # no variance to share out
                        continue
        return found


def import_fanova() -> None:
    """Import what `Ledger.importances` needs and Optuna puts off: scikit-learn, two seconds."""
    optuna.importance.FanovaImportanceEvaluator()


def _study_of(proposal: Proposal) -> str:
    return FINALISTS if proposal.finalist_of else proposal.cell


def _storage(path: Path | None) -> optuna.storages.BaseStorage:
    if path is None:
        return optuna.storages.InMemoryStorage()
    with _ledger_errors("opened"):
        return optuna.storages.RDBStorage(
            f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}})


@contextmanager
def _ledger_errors(what: str) -> Iterator[None]:
    """SQLAlchemy's and Optuna's many errors as one of ours."""
    try:
        yield
    except ToconvError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise MachineryError(f"the ledger (study.db) cannot be {what}: {reason}") from error


def _distribution(d: Distribution) -> BaseDistribution:
    if d.choices is not None:
        return CategoricalDistribution(d.choices)
    if d.type == "int":
        return IntDistribution(int(d.low), int(d.high), log=d.log, step=int(d.step or 1))
    return FloatDistribution(d.low, d.high, log=d.log, step=d.step)


def _suggest(trial: optuna.Trial, key: str, d: Distribution) -> Any:
    if d.choices is not None:
        return trial.suggest_categorical(key, d.choices)
    if d.type == "int":
        return trial.suggest_int(key, int(d.low), int(d.high), log=d.log, step=int(d.step or 1))
    return trial.suggest_float(key, d.low, d.high, log=d.log, step=d.step)


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
