"""What to take at each number of tokens: for fidelity, and for a reader that was never trained on compressed tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from toconv.analysis.pareto import recommended
from toconv.analysis.records import TrialRecord, baselines_at
from toconv.analysis.seeds import Estimate, SeedGroup, best_at_each, compare, seed_groups
from toconv.evaluation.metrics import METRICS, TEST, Metric

FIDELITY, READER = METRICS["distortion"], METRICS["embedding_agreement"]
PURPOSES = {"fidelity": FIDELITY, "a frozen reader": READER}


@dataclass(frozen=True)
class Advice:
    """For one purpose at one number of tokens."""

    tokens: int
    purpose: str  # of PURPOSES
    take: str  # the name of a trial, of settings that were trained with several seeds, or of a baseline
    trained: bool
    why: str


def advice(records: Sequence[TrialRecord]) -> list[Advice]:
    """By rising tokens, in the order of PURPOSES. Chosen on validation pictures: the best training where it is better
    than every baseline, by more than its interval where it has one; else the best baseline. Fidelity's training is the
    recommended one."""
    groups = seed_groups(records)
    found = []
    for tokens, trial in recommended(records).items():
        own = next(group for group in groups if trial in group.trials)
        for purpose, metric in PURPOSES.items():
            best = best_at_each(groups, metric.name, metric).get(tokens)
            group = own if metric is FIDELITY else best[0] if best else None
            if group and (ours := group.estimate(metric.name)):
                found.append(_choice(tokens, purpose, group, ours, _best_free(records, tokens, metric)))
    return found


def _best_free(records: Sequence[TrialRecord], tokens: int, metric: Metric) -> TrialRecord | None:
    free = [r for r in baselines_at(records, tokens).values() if metric.name in r.values]
    best = metric.best(r.values[metric.name] for r in free) if free else None
    return next((r for r in free if r.values[metric.name] == best), None)


def _choice(tokens: int, purpose: str, group: SeedGroup, ours: Estimate, free: TrialRecord | None) -> Advice:
    metric = PURPOSES[purpose]
    value = f"{ours}{_tested(group, metric)}"
    trained = f"{metric.words} {value}"
    if free is None:
        return Advice(tokens, purpose, group.name, True, f"{trained}; no baseline was measured")
    theirs = free.values[metric.name]
    tested = f" (test {free.values[TEST.prefix + metric.name]:.4f})" if TEST.prefix + metric.name in free.values else ""
    untrained, verdict = f"{theirs:.4f}{tested}", compare(ours, theirs, metric)
    if verdict == "better":
        hint = "" if ours.half_width is not None else "; one training, so a hint until seeds confirm it"
        why = f"{trained}, against {untrained} of {free.name}, the best without training{hint}"
        return Advice(tokens, purpose, group.name, True, why)
    beside = "which is worse" if verdict == "worse" else "whose interval holds that"
    why = f"{metric.words} {untrained} without any training; the best training has {value}, {beside}"
    return Advice(tokens, purpose, free.name, False, why)


def _tested(group: SeedGroup, metric: Metric) -> str:
    on_test = group.estimate(TEST.prefix + metric.name)
    return f" (test {on_test})" if on_test else ""
