"""Trainings that differ in their seed alone, as one: means with confidence intervals, and what they are better than."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import stdev
from typing import Any

from scipy.special import stdtrit

from toconv.analysis.records import Kind, TrialRecord, finalists_of, settings_text
from toconv.evaluation.metrics import GIVEN, TEST, Metric, Place, names_in
from toconv.settings import SEED

CONFIDENCE = 0.95
TESTED = names_in(Place.TABLE, TEST)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its confidence interval (None for a single seed)."""

    mean: float
    half_width: float | None
    given: bool = False  # as the loss of one of these trainings

    def __str__(self) -> str:
        half = f" ± {self.half_width:.4f}" if self.half_width is not None else ""
        return f"{self.mean:.4f}{half}{GIVEN if self.given else ''}"


def estimate(values: Sequence[float], given: bool = False) -> Estimate:
    """Mean and Student's t interval (CONFIDENCE, n − 1 degrees of freedom)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, None, given)
    quantile = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    return Estimate(mean, float(quantile * stdev(values) / sqrt(len(values))), given)


def of_runs(runs: Sequence[TrialRecord], name: str) -> Estimate:
    """Of a metric that all of them have."""
    return estimate([r.values[name] for r in runs], any(r.is_given(name) for r in runs))


def other_settings(record: TrialRecord, *varying: str) -> tuple[tuple[str, str], ...]:
    """The params of a trial without those that vary, to compare and to sort by."""
    return tuple(sorted((key, repr(value)) for key, value in record.params.items() if key not in varying))


@dataclass(frozen=True)
class SeedGroup:
    """Complete trials with the same settings but the seed, and their complete finalists."""

    tokens: int
    trials: tuple[TrialRecord, ...]
    finalists: tuple[TrialRecord, ...]

    @property
    def runs(self) -> tuple[TrialRecord, ...]:
        """What it is judged by. A search's own seed was chosen for its result; fresh seeds were not."""
        return self.finalists or self.trials

    @property
    def name(self) -> str:
        first = self.trials[0]
        if len(self.trials) == 1:
            return first.name
        return settings_text({key: value for key, value in first.params.items() if key != SEED})

    @property
    def evidence(self) -> str:
        count = len(self.runs)
        if self.finalists:
            return f"{count} fresh seed{'s' if count > 1 else ''}"
        return f"{count} seeds" if count > 1 else "one training"

    def estimate(self, name: str) -> Estimate | None:
        """Over its runs; None where one of them lacks the metric."""
        return of_runs(self.runs, name) if all(name in r.values for r in self.runs) else None


def seed_groups(records: Sequence[TrialRecord]) -> list[SeedGroup]:
    """By rising tokens, then in the order of the records."""
    groups: dict[tuple[Any, ...], list[TrialRecord]] = {}
    for r in records:
        if r.is_complete_trial:
            groups.setdefault((r.tokens, other_settings(r, SEED)), []).append(r)
    found = []
    for (tokens, _), trials in groups.items():
        finalists = finalists_of(records, *(r.trial_id for r in trials))
        found.append(SeedGroup(tokens, tuple(trials), tuple(finalists)))
    return sorted(found, key=lambda group: group.tokens)


def best_at_each(found: Sequence[SeedGroup], name: str, metric: Metric) -> dict[int, tuple[SeedGroup, Estimate]]:
    """{tokens: the group with the best mean of `name`, and that}; several seeds go before single trainings."""
    best = {}
    for tokens in sorted({group.tokens for group in found}):
        here = [(group, e) for group in found if group.tokens == tokens and (e := group.estimate(name))]
        here = [(group, e) for group, e in here if e.half_width is not None] or here
        if here:
            best[tokens] = min(here, key=lambda pair: metric.sign * pair[1].mean)
    return best


def compare(ours: Estimate, theirs: float, metric: Metric) -> str:
    """`better`, `worse`, or `not separable` where the interval of ours (without one: its value) holds theirs."""
    if abs(ours.mean - theirs) <= (ours.half_width or 0.0):
        return "not separable"
    return "better" if (ours.mean < theirs) == metric.lower_is_better else "worse"


@dataclass(frozen=True)
class Finalist:
    """A trial of the front, measured with seeds that its search did not use."""

    trial: TrialRecord
    seeds: int
    metrics: dict[str, Estimate]


def summarise(records: Sequence[TrialRecord]) -> list[Finalist]:
    """Of each trial with complete finalists, by rising tokens and test distortion."""
    found = []
    for trial in (r for r in records if r.kind == Kind.TRIAL):
        if runs := finalists_of(records, trial.trial_id):
            metrics = {name: of_runs(runs, name) for name in TESTED}
            found.append(Finalist(trial, len(runs), metrics))
    return sorted(found, key=lambda f: (f.trial.tokens, f.metrics[TESTED[0]].mean))
