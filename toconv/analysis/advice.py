"""What to take at each number of tokens: for fidelity, and for a reader that was never trained on compressed tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    recommended one. Baselines whose tokens stand in no grid are not chosen; where one is better than all, that is
    said."""
    groups = seed_groups(records)
    found = []
    for tokens, trial in recommended(records).items():
        own = next(group for group in groups if trial in group.trials)
        for purpose, metric in PURPOSES.items():
            best = best_at_each(groups, metric.name, metric).get(tokens)
            group = own if metric is FIDELITY else best[0] if best else None
            if group and (ours := group.estimate(metric.name)):
                free = [r for r in baselines_at(records, tokens).values() if metric.name in r.values]
                choice = _choice(tokens, purpose, group, ours, _best([r for r in free if r.gives_grid], metric))
                found.append(replace(choice, why=choice.why + _better_set(free, ours, metric)))
    return found


def _best(records: Sequence[TrialRecord], metric: Metric) -> TrialRecord | None:
    return min(records, key=lambda r: metric.sign * r.values[metric.name], default=None)


def _better_set(free: Sequence[TrialRecord], ours: Estimate, metric: Metric) -> str:
    """What a baseline without a grid has, where it is better than the training and all others."""
    best = _best(free, metric)
    if best is None or best.gives_grid or compare(ours, best.values[metric.name], metric) != "worse":
        return ""
    return f"; {best.name}, a set of tokens in no grid, restored by what goes beside them, has {_value(best, metric)}"


def _choice(tokens: int, purpose: str, group: SeedGroup, ours: Estimate, free: TrialRecord | None) -> Advice:
    metric = PURPOSES[purpose]
    value = f"{ours}{_tested(group, metric)}"
    trained = f"{metric.words} {value}"
    if free is None:
        return Advice(tokens, purpose, group.name, True, f"{trained}; no baseline was measured")
    untrained, verdict = _value(free, metric), compare(ours, free.values[metric.name], metric)
    if verdict == "better":
        hint = "" if ours.half_width is not None else "; one training, so a hint until seeds confirm it"
        why = f"{trained}, against {untrained} of {free.name}, the best without training{hint}"
        return Advice(tokens, purpose, group.name, True, why)
    beside = "which is worse" if verdict == "worse" else "whose interval holds that"
    why = f"{metric.words} {untrained} without any training; the best training has {value}, {beside}"
    return Advice(tokens, purpose, free.name, False, why)


def _value(free: TrialRecord, metric: Metric) -> str:
    on_test = free.values.get(TEST.prefix + metric.name)
    return f"{free.values[metric.name]:.4f}" + ("" if on_test is None else f" (test {on_test:.4f})")


def _tested(group: SeedGroup, metric: Metric) -> str:
    on_test = group.estimate(TEST.prefix + metric.name)
    return f" (test {on_test})" if on_test else ""
