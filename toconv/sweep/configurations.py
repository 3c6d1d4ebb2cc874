"""What is compared: trainings that differ in their seed alone, as one, with intervals where there are several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toconv.sweep.finalists import Estimate, estimate
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import settings_text
from toconv.sweep.twins import SEED


@dataclass(frozen=True)
class Measure:
    """What a metric is called in figures, and which way is better."""

    name: str
    title: str
    lower: bool

    def best(self, values: Iterable[float]) -> float:
        return min(values) if self.lower else max(values)

    @property
    def way(self) -> str:
        return "lower is better" if self.lower else "higher is better"


MEASURES = tuple(Measure(*facts) for facts in (
    ("distortion", "distortion (FVU, own decoder)", True),
    ("perception", "perception (excess sliced Wasserstein distance)", True),
    ("use", "use (cosine of the pooled embedding)", False),
    ("distortion_ridge", "distortion (FVU, common closed-form decoder)", True),
    ("cosine", "cosine of tokens, centred", False),
    ("zero_shot_agreement", "zero-shot agreement", False)))
SPLITS = {"": "validation", "test_": "test"}  # prefix of a metric's name: which pictures


@dataclass(frozen=True)
class Configuration:
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
        values = [r.values[name] for r in self.runs if name in r.values]
        return estimate(values) if len(values) == len(self.runs) else None


def configurations(records: Sequence[TrialRecord]) -> list[Configuration]:
    """By rising tokens, then in the order of the records."""
    groups: dict[tuple, list[TrialRecord]] = {}
    for r in records:
        if r.kind == "trial" and r.state == "complete":
            rest = tuple(sorted((key, repr(value)) for key, value in r.params.items() if key != SEED))
            groups.setdefault((r.tokens, rest), []).append(r)
    found = []
    for (tokens, _), trials in groups.items():
        own = {r.trial_id for r in trials}
        finalists = tuple(r for r in records if r.finalist_of in own and r.state == "complete")
        found.append(Configuration(tokens, tuple(trials), finalists))
    return sorted(found, key=lambda c: c.tokens)


def best_at_each(found: Sequence[Configuration], name: str, measure: Measure) -> dict[int, Configuration]:
    """{tokens: the configuration with the best mean of `name`}; several seeds go before single trainings."""
    best = {}
    for tokens in sorted({c.tokens for c in found}):
        here = [c for c in found if c.tokens == tokens and c.estimate(name)]
        here = [c for c in here if c.estimate(name).half_width is not None] or here
        if here:
            sign = 1 if measure.lower else -1
            best[tokens] = min(here, key=lambda c: sign * c.estimate(name).mean)
    return best


def compare(ours: Estimate, theirs: float, measure: Measure) -> str:
    """`better`, `worse`, or `not separable` where the interval of ours (without one: its value) holds theirs."""
    if abs(ours.mean - theirs) <= (ours.half_width or 0.0):
        return "not separable"
    return "better" if (ours.mean < theirs) == measure.lower else "worse"
