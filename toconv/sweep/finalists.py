"""The front on the test pictures: means over fresh seeds with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from scipy import stats

from toconv.sweep.records import TrialRecord

CONFIDENCE = 0.95
TESTED = ("test_distortion", "test_distortion_ridge", "test_perception", "test_use", "test_cosine")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half the width of its confidence interval (None for a single seed)."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + (f" ± {self.half_width:.4f}" if self.half_width is not None else "")


@dataclass(frozen=True)
class Finalist:
    """A trial of the front, measured with seeds that its search did not use."""

    trial: TrialRecord
    seeds: int
    metrics: dict[str, Estimate]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student's t interval (CONFIDENCE, n − 1 degrees of freedom)."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, None)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return Estimate(mean, float(quantile * stats.sem(values)))


def summarise(records: Sequence[TrialRecord]) -> list[Finalist]:
    """One entry for each trial with complete finalists, by rising tokens and test distortion."""
    trials, found = {r.trial_id: r for r in records if r.kind == "trial"}, []
    for trial_id, trial in trials.items():
        runs = [r for r in records if r.finalist_of == trial_id and r.state == "complete"]
        if runs:
            metrics = {name: estimate([r.values[name] for r in runs]) for name in TESTED}
            found.append(Finalist(trial, len(runs), metrics))
    return sorted(found, key=lambda f: (f.trial.tokens, f.metrics["test_distortion"].mean))


def rows(records: Sequence[TrialRecord]) -> list[list[str]]:
    """Tokens, name, seeds and the TESTED metrics, as text: the finalists of each k, then its baselines."""
    finalists = summarise(records)
    table = []
    for tokens in sorted({f.trial.tokens for f in finalists}):
        table += [[str(tokens), f.trial.name, str(f.seeds), *(str(f.metrics[name]) for name in TESTED)]
                  for f in finalists if f.trial.tokens == tokens]
        table += [[str(tokens), r.name, "", *(f"{r.values[name]:.4f}" for name in TESTED)]
                  for r in records if r.kind == "baseline" and r.tokens == tokens]
    return table


def finalists_table(records: Sequence[TrialRecord]) -> Table | None:
    """For the terminal; None where there are no finalists."""
    found = rows(records)
    if not found:
        return None
    table = Table(title=f"the front on the test pictures: mean over seeds ± half its {CONFIDENCE:.0%} interval",
                  title_justify="left")
    for name in ("tokens", "name", "seeds", *TESTED):
        table.add_column(name, justify="left" if name == "name" else "right")
    for row in found:
        table.add_row(*row, style="bold" if row[2] else "dim")
    return table
