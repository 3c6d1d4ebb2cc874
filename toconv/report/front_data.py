"""What the figures of the front show, computed once: page/fronts.py draws it as SVG, figures.py by matplotlib."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal, NamedTuple

from toconv.analysis.ablation import CURVE
from toconv.analysis.pareto import recommended
from toconv.analysis.records import Kind, TrialRecord
from toconv.analysis.seeds import Estimate, SeedGroup, best_at_each, seed_groups
from toconv.evaluation.metrics import HELD_OUT, METRICS, Metric, Place, Split, folded, shown_in

DISTORTION = METRICS["distortion"]
TOKENS = "tokens"
OWN = Split("", "", "your own")  # whatever a user's evaluation looks at
SHAPE_OF = {  # of the baselines that are drawn one by one; the others are points of the mixing curve
    "pool": "square",
    "strided": "up",
    "pca": "diamond",
    "linear": "hexagon",
    "pool_bilinear": "down",
    "pool_rescaled": "plus",
    "random": "cross",
}


class Measured(NamedTuple):
    """A metric on the pictures of a split."""

    split: Split
    metric: Metric

    @property
    def name(self) -> str:
        """In the values of a record."""
        return self.split.prefix + self.metric.name

    @property
    def words(self) -> str:
        return self.name.replace("_", " ")

    @property
    def across(self) -> str:
        """The name of the distortion that it is drawn against, of the same pictures."""
        return self.split.prefix + DISTORTION.name

    @property
    def file(self) -> str:
        """What its figure against tokens is called."""
        return f"front_{self.name}"

    @property
    def panels_file(self) -> str:
        """What its figure against distortion is called."""
        return f"{self.split.prefix}distortion_{self.metric.name}"


@dataclass(frozen=True)
class Results:
    """The records of a sweep, and what of them all figures need."""

    records: Sequence[TrialRecord]

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """Trials alone."""
        return [r for r in self.records if r.is_complete_trial]

    @cached_property
    def baselines(self) -> list[TrialRecord]:
        return [r for r in self.records if r.kind == Kind.BASELINE]

    @cached_property
    def recommended(self) -> dict[int, TrialRecord]:
        return recommended(self.records)

    @cached_property
    def seed_groups(self) -> list[SeedGroup]:
        return seed_groups(self.records)

    @property
    def repeated(self) -> bool:
        """Whether anything was trained with several seeds."""
        return any(len(group.runs) > 1 for group in self.seed_groups)

    @cached_property
    def sizes(self) -> list[int]:
        """Every number of tokens that has a result."""
        return sorted({r.tokens for r in [*self.complete, *self.baselines]})

    @property
    def own(self) -> list[Metric]:
        """What the user's own evaluation measures."""
        return []

    @cached_property
    def measured(self) -> list[Measured]:
        """All that is drawn against tokens and that seed groups have: validation first, the user's own last."""
        return [*self._measured(Place.FIGURE), *self._known(Measured(OWN, metric) for metric in self.own)]

    @cached_property
    def against_distortion(self) -> list[Measured]:
        return self._measured(Place.PANEL)

    @cached_property
    def folded(self) -> list[Measured]:
        return self._known(Measured(split, metric) for split in HELD_OUT for metric in folded())

    def _measured(self, place: Place) -> list[Measured]:
        return self._known(Measured(split, metric) for split in HELD_OUT for metric in shown_in(place))

    def _known(self, every: Iterable[Measured]) -> list[Measured]:
        return [m for m in every if any(group.estimate(m.name) for group in self.seed_groups)]


class Point(NamedTuple):
    """A trial or a baseline."""

    record: TrialRecord
    x: float
    y: float


class Mean(NamedTuple):
    """A seed group; several seeds give intervals."""

    group: SeedGroup
    x: Estimate
    y: Estimate

    @property
    def repeated(self) -> bool:
        return self.y.half_width is not None


@dataclass(frozen=True)
class Plot:
    """One metric against the number of tokens, or against distortion at one number of tokens."""

    measured: Measured  # along y
    trials: Sequence[Point]
    baselines: Mapping[str, Sequence[Point]]  # by name, in the order of SHAPE_OF; each by rising tokens
    means: Sequence[Mean]
    best: Mapping[int, Mean] = field(default_factory=dict)  # against tokens: at each number of them
    curve: Sequence[Point] = ()  # against distortion: the mixing curve, strided to pooled

    def along(self, axis: Literal["x", "y"], baselines: bool = True) -> list[float]:
        """What a scale must hold."""
        free = [*chain(*self.baselines.values()), *self.curve] if baselines else []
        intervals = [ends(getattr(mean, axis)) for mean in self.means]
        return [*(getattr(point, axis) for point in [*self.trials, *free]), *chain(*intervals)]


def ends(estimate: Estimate) -> tuple[float, float]:
    half = estimate.half_width or 0.0
    return estimate.mean - half, estimate.mean + half


def tokens_plot(results: Results, measured: Measured) -> Plot:
    """Every trial and baseline, and the best seed group at each number of tokens."""
    means = _means(results.seed_groups, TOKENS, measured.name)
    of = {id(mean.group): mean for mean in means}
    best = best_at_each(results.seed_groups, measured.name, measured.metric)
    trials, baselines = (_points(r, TOKENS, measured.name) for r in (results.complete, results.baselines))
    at_each = {tokens: of[id(group)] for tokens, (group, _) in best.items()}
    return Plot(measured, trials, _series(baselines), means, best=at_each)


def panel_plot(results: Results, measured: Measured, tokens: int) -> Plot:
    """Trials, baselines and seed groups of so many tokens."""
    across = measured.across
    here = ([r for r in records if r.tokens == tokens] for records in (results.complete, results.baselines))
    trials, baselines = (_points(records, across, measured.name) for records in here)
    means = _means((group for group in results.seed_groups if group.tokens == tokens), across, measured.name)
    curve = [p for name in CURVE for p in baselines if p.record.name == name]
    return Plot(measured, trials, _series(baselines), means, curve=curve)


def _points(records: Iterable[TrialRecord], x: str, y: str) -> list[Point]:
    known = ((r, {TOKENS: float(r.tokens), **r.values}) for r in records)
    return [Point(r, values[x], values[y]) for r, values in known if x in values and y in values]


def _series(points: Sequence[Point]) -> dict[str, list[Point]]:
    found = {name: sorted((p for p in points if p.record.name == name), key=lambda p: p.x) for name in SHAPE_OF}
    return {name: series for name, series in found.items() if series}


def _means(groups: Iterable[SeedGroup], x: str, y: str) -> list[Mean]:
    pairs = ((g, Estimate(g.tokens, None) if x == TOKENS else g.estimate(x), g.estimate(y)) for g in groups)
    return [Mean(group, a, b) for group, a, b in pairs if a and b]
