"""Points of a cell's search space, drawn in memory from the ledger's history.

The sampler is seeded by the cell and the trial's number, never by the process."""

import hashlib
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from toconv.sweep.file import Cell, Sweep
from toconv.sweep.search.glance import Facts
from toconv.sweep.space import Distribution, Params, points

REDRAWS = 32  # draws that repeat a configuration before a cell counts as exhausted
BY_SAMPLER = 64  # draws of one trial that the sampler makes; where the settings refuse so many, the rest is random
DRAWS = 500  # of one trial
LEARNING = 10  # trials with a result before TPE learns from any (its n_startup_trials)
WITH_RESULT = (TrialState.COMPLETE, TrialState.PRUNED)
REFUSED_POINTS = "refused_points"  # of a trial in the ledger: the last draws before it that the settings refused
MOST_REFUSED = 16  # of these
SAMPLERS: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "gp": optuna.samplers.GPSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
    "random": optuna.samplers.RandomSampler,
}

Point = tuple[dict[str, Any], dict[str, Any]]  # the searched settings, and what the sampler wants to remember of them


class Sampling:
    """The search space of a sweep as Optuna draws from it."""

    def __init__(self, sweep: Sweep, known: Iterable[FrozenTrial]) -> None:
        """`known` are the trials so far: a study keeps the kind of distribution that a setting began with."""
        self.learnt: Mapping[str, Sequence[FrozenTrial]] = {}  # by cell, of earlier studies
        self._sweep = sweep
        self._space = {key: _distribution(d) for key, d in sweep.file.search.items()}
        for trial in known:
            kept = {key: d for key, d in trial.distributions.items() if key in self._space}
            self._space |= {key: d for key, d in kept.items() if type(d) is not type(self._space[key])}

    @property
    def is_whole(self) -> bool:
        """Whether `points` are all that a cell has."""
        return self._sweep.file.sampler == "grid"

    def distributions(self, names: Iterable[str]) -> dict[str, BaseDistribution]:
        return {name: self._space[name] for name in names}

    def points(self, cell: Cell, history: Sequence[FrozenTrial], refused: Counter[str]) -> Iterator[Point]:
        """The next points for a cell with these trials. `refused` is what the settings said of those before."""
        if self.is_whole:
            return self._grid(cell)
        start = self.start(history)
        return self._asked(cell, history, refused, lambda again: start if again else [])

    def start(self, history: Sequence[FrozenTrial]) -> list[Params]:
        """The first point to start with that no trial of the cell has or began with, each trial counting for one."""
        left = [*self._sweep.file.start_with]
        for trial in history if left else ():
            facts = Facts.model_validate(trial.user_attrs)
            has = {**(facts.params or {}), **trial.params}
            tried = [p for p in left if p == facts.began_with or p.items() <= has.items()]
            if tried:
                left.remove(tried[0])
        return left[:1]

    def points_with(
        self, cell: Cell, history: Sequence[FrozenTrial], refused: Counter[str], given: Params
    ) -> Iterator[Point]:
        """Those with the values `given`; what is not given is drawn."""
        found = self._grid(cell) if self.is_whole else self._asked(cell, history, refused, lambda _: [given])
        return (pair for pair in found if given.items() <= pair[0].items())

    def _grid(self, cell: Cell) -> Iterator[Point]:
        """Points to start with, then every point of the cell in an order of its own, so that few are spread out."""
        found = list(points(self._sweep.file.search, self._sweep.known(cell)))
        random.Random(_seed(cell.name)).shuffle(found)
        starts = self._sweep.file.start_with
        found.sort(key=lambda point: next((i for i, s in enumerate(starts) if s.items() <= point.items()), len(starts)))
        return ((point, {}) for point in found)

    def _asked(
        self,
        cell: Cell,
        history: Sequence[FrozenTrial],
        refused: Counter[str],
        start: Callable[[bool], Iterable[Params]],
    ) -> Iterator[Point]:
        """DRAWS points by the sampler, each with what the sampler wants to remember of it. It is told of a point that
        was not taken as of one that failed. `start` gives points to complete instead, told whether the settings refused
        the draw before, of which there is none at first: then a point to start with is drawn again."""
        shadow = optuna.create_study(directions=list(self._sweep.file.objectives.values()))
        known_trials = [*self.learnt.get(cell.name, ()), *inside(history), *self._infeasible(history)]
        shadow.add_trials(_Shared(trial) for trial in known_trials)
        known = -1
        for attempt in range(DRAWS):
            for point in start(refused.total() > known) if attempt < REDRAWS else ():
                shadow.enqueue_trial(point)
            known = refused.total()
            shadow.sampler = self._sampler(cell.name, len(history), attempt)
            trial, point = self._ask(shadow, cell)
            yield point, shadow.get_trials(deepcopy=False)[-1].system_attrs
            shadow.tell(trial, state=TrialState.FAIL)

    def _infeasible(self, history: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """What of a cell can never be trained, refused by the settings or beyond this machine, as Optuna's TPE takes
        it: pruned, with a constraint that is missed. At most as many as there are trials with a result: TPE calls a
        share of all of them good. Optuna's other samplers know of no infeasible trial without a result."""
        points = [p for t in history for p in t.user_attrs.get(REFUSED_POINTS, ())]
        points += [t.params for t in history if t.user_attrs.get("infeasible")]
        known = sum(t.state in WITH_RESULT for t in inside(history))
        if self._sweep.file.sampler != "tpe" or known < LEARNING:
            return []
        return [
            create_trial(
                state=TrialState.PRUNED, params=p, distributions=self.distributions(p), constraints={"feasible": 1.0}
            )
            for p in [p for p in points if self._allows(p)][-known:]
        ]

    def _allows(self, point: Params) -> bool:
        space = self._sweep.file.search
        return bool(point) and all(key in space and space[key].allows(value) for key, value in point.items())

    def _ask(self, shadow: optuna.Study, cell: Cell) -> tuple[optuna.Trial, dict[str, Any]]:
        """The sampler's next point. Conditional settings are asked for one by one, and only where they count."""
        space = self._sweep.file.search
        if not any(d.when for d in space.values()):
            trial = shadow.ask(self._space)
            return trial, trial.params
        trial, known = shadow.ask(), self._sweep.known(cell)
        drawn: dict[str, Any] = {}
        for key, distribution in space.items():
            if distribution.active({**known, **drawn}):
                drawn[key] = _suggest(trial, key, distribution)
        return trial, drawn

    def _sampler(self, cell: str, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        seed = _seed(cell, number, attempt)
        kind = self._sweep.file.sampler if attempt < BY_SAMPLER else "random"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if kind == "tpe":
                one = len(self._sweep.file.objectives) == 1
                return optuna.samplers.TPESampler(seed=seed, multivariate=one, constant_liar=one)
            return SAMPLERS[kind](seed=seed)


class _Shared(FrozenTrial):
    """A trial whose settings and distributions nobody changes. Optuna's storage in memory copies what it is given to
    the last of them, which was most of a proposal's time where there are many trials; of these only the outermost."""

    def __init__(self, of: FrozenTrial) -> None:
        vars(self).update(vars(of))

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenTrial:
        return _Shared(self)


def inside(history: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Those that lie in the space as it is now: Optuna's samplers take them for proposals of it."""
    return [trial for trial in history if not trial.user_attrs.get("outside")]


def _distribution(d: Distribution) -> BaseDistribution:
    if d.choices is not None:
        return CategoricalDistribution(d.choices)
    low, high = d.range
    if d.type == "int":
        return IntDistribution(int(low), int(high), log=d.log, step=int(d.step or 1))
    return FloatDistribution(low, high, log=d.log, step=d.step)


def _suggest(trial: optuna.Trial, key: str, d: Distribution) -> Any:
    if d.choices is not None:
        return trial.suggest_categorical(key, d.choices)
    low, high = d.range
    if d.type == "int":
        return trial.suggest_int(key, int(low), int(high), log=d.log, step=int(d.step or 1))
    return trial.suggest_float(key, low, high, log=d.log, step=d.step)


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
