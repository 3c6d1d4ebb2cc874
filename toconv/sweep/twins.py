"""Does the critic help? Trainings beside their twins of reconstruction alone, and beside what costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toconv.sweep.finalists import Estimate, estimate
from toconv.sweep.records import TrialRecord

WEIGHT, SEED = "loss.wgan_weight", "training.seed"
COMPARED = ("distortion", "distortion_ridge", "perception", "use", "device_seconds")
CURVE = ("strided", "mixing_0.75", "mixing_0.5", "mixing_0.25", "pool")  # by falling distortion


@dataclass(frozen=True)
class Comparison:
    """What `name` has at `tokens` above `other`, over the seeds that both were trained with."""

    tokens: int
    name: str
    other: str
    seeds: int
    differences: dict[str, Estimate]


def comparisons(records: Sequence[TrialRecord], prefix: str = "") -> list[Comparison]:
    """All that the records allow: critic − twin (paired by seed), critic − twin at equal distortion (`use` alone), and
    each group of seeds − per-block PCA, and − the mixing curve (`perception` alone). `prefix` is "" for the validation
    pictures, "test_" for the test pictures.

    A twin differs in `loss.wgan_weight=0` alone. Empty where no training has one.
    """
    groups = _groups(records, prefix)
    found = []
    for (tokens, weight, rest), runs in groups.items():
        twin = groups.get((tokens, 0.0, rest), {}) if weight else {}
        seeds = sorted(runs.keys() & twin.keys())
        if seeds:
            label = f"critic, weight {weight:g}"
            found.append(Comparison(tokens, label, "its twin without", len(seeds), {
                name: estimate([runs[s][name] - twin[s][name] for s in seeds]) for name in COMPARED}))
            strided = _baselines(records, tokens).get("strided")
            if strided:
                found.append(Comparison(tokens, label, "its twin at equal distortion", len(seeds), {"use": estimate(
                    [runs[s]["use"] - use_at(runs[s]["distortion"], twin[s], (
                        strided[f"{prefix}distortion"], strided[f"{prefix}use"])) for s in seeds])}))
    if not found:
        return []
    for (tokens, weight, _), runs in groups.items():
        label = f"critic, weight {weight:g}" if weight else "reconstruction alone"
        found += _against_baselines(records, tokens, label, list(runs.values()), prefix)
    return sorted(found, key=lambda c: (c.other, c.tokens, c.name))


def _groups(records: Sequence[TrialRecord], prefix: str) -> dict[tuple, dict[int, Mapping[str, float]]]:
    """{(tokens, weight, other settings): {seed: values}} of complete trials with both settings among their own."""
    groups: dict[tuple, dict[int, Mapping[str, float]]] = {}
    for r in records:
        if r.kind == "trial" and r.state == "complete" and WEIGHT in r.params and SEED in r.params \
                and f"{prefix}use" in r.values:
            rest = tuple(sorted((key, repr(v)) for key, v in r.params.items() if key not in (WEIGHT, SEED)))
            values = {name: r.device_seconds if name == "device_seconds" else r.values[prefix + name]
                      for name in COMPARED}
            groups.setdefault((r.tokens, float(r.params[WEIGHT]), rest), {})[r.params[SEED]] = values
    return groups


def _against_baselines(
    records: Sequence[TrialRecord], tokens: int, label: str, runs: list[Mapping[str, float]], prefix: str
) -> list[Comparison]:
    free, found = _baselines(records, tokens), []
    if "pca" in free:
        found.append(Comparison(tokens, label, "per-block PCA", len(runs), {
            name: estimate([run[name] - free["pca"][prefix + name] for run in runs])
            for name in COMPARED if name != "device_seconds"}))
    if all(name in free for name in CURVE):
        curve = [(free[name][f"{prefix}distortion"], free[name][f"{prefix}perception"]) for name in CURVE]
        at = mixing_curve(curve)
        found.append(Comparison(tokens, label, "the mixing curve", len(runs), {
            "perception": estimate([run["perception"] - at(run["distortion"]) for run in runs])}))
    return found


def _baselines(records: Sequence[TrialRecord], tokens: int) -> dict[str, Mapping[str, float]]:
    return {r.name: r.values for r in records if r.kind == "baseline" and r.tokens == tokens}


def use_at(distortion: float, twin: Mapping[str, float], strided: tuple[float, float]) -> float:
    """The use that the twin would have at a higher distortion: its tokens are moved towards strided ones, (distortion,
    use), which costs nothing, on a straight line. Its own where the distortion asked for is no higher than its own."""
    share = max(0.0, distortion - twin["distortion"]) / (strided[0] - twin["distortion"])
    return twin["use"] + share * (strided[1] - twin["use"])


def mixing_curve(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The least perception that the mixing curve has at a distortion or below it, between its points on a line.

    `points` are (distortion, perception). Below its lowest distortion the curve has nothing to offer: there its
    nearest point stands for it, which is also worse in distortion.
    """
    distortions, perceptions = np.array(sorted(points)).T

    def at(distortion: float) -> float:
        reached = perceptions[distortions <= distortion]
        return float(min(np.interp(distortion, distortions, perceptions), *reached) if len(reached)
                     else perceptions[0])

    return at


def verdict(difference: Estimate) -> str:
    """Signed difference with its interval; bold where the interval excludes zero, which alone is a finding."""
    half = difference.half_width
    text = f"{difference.mean:+.4f}" + (f" ± {half:.4f}" if half is not None else "")
    return f"**{text}**" if half is not None and abs(difference.mean) > half else text


def markdown(found: Sequence[Comparison]) -> str:
    """A table for each thing compared with."""
    parts = []
    for other in dict.fromkeys(c.other for c in found):
        rows = [c for c in found if c.other == other]
        names = [name for name in COMPARED if name in rows[0].differences]
        parts.append("\n".join([
            f"Minus {other}, mean over seeds ± half the 95 % interval:", "",
            f"| tokens | training | seeds | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|",
            *(f"| {c.tokens} | {c.name} | {c.seeds} | "
              f"{' | '.join(verdict(c.differences[name]) for name in names)} |" for c in rows)]))
    return "\n\n".join(parts) + "\n"
