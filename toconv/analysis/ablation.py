"""Does the critic help? Trainings with a critic beside those of reconstruction alone, and beside what costs nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toconv.analysis.records import TrialRecord, baselines_at
from toconv.analysis.seeds import Estimate, estimate, other_settings
from toconv.evaluation.metrics import VALIDATION, Place, Split, names_in
from toconv.settings import CRITIC_WEIGHT, SEED

COMPARED = [*names_in(Place.ABLATION), "device_seconds"]
AGREEMENT = "embedding_agreement"
LINEAR = {"linear": "the linear code", "pca": "per-block PCA"}  # baselines, and how they are called
CURVE = ("strided", "mixing_0.75", "mixing_0.5", "mixing_0.25", "pool")  # by falling distortion


@dataclass(frozen=True)
class Comparison:
    """What `name` has at `tokens` above `other`, over the seeds that both were trained with."""

    tokens: int
    name: str
    other: str
    seeds: int
    differences: dict[str, Estimate]


Values = Mapping[str, float]
Free = Mapping[str, Values]  # of baselines, by name
Groups = dict[tuple[int, float, tuple[tuple[str, str], ...]], dict[int, Values]]


def comparisons(records: Sequence[TrialRecord], split: Split = VALIDATION) -> list[Comparison]:
    """All that the records allow: with critic − without (paired by seed), the same at equal distortion (embedding
    agreement alone), and each group of seeds − the linear codes and − the mixing curve (`perception` alone). Trainings
    without critic differ in `loss.wgan_weight=0` alone. Empty where there is no such pair."""
    groups = _groups(records, split)
    found = []
    for (tokens, weight, rest), runs in groups.items():
        without = groups.get((tokens, 0.0, rest), {}) if weight else {}
        found += _against_the_same(tokens, weight, runs, without, _baselines(records, tokens, split).get("strided"))
    if not found:
        return []
    for (tokens, weight, _), runs in groups.items():
        found += _against_baselines(tokens, weight, list(runs.values()), _baselines(records, tokens, split))
    return sorted(found, key=lambda c: (c.other, c.tokens, c.name))


def training(weight: float) -> str:
    """What a training with this weight of the critic is called."""
    return f"critic, weight {weight:g}" if weight else "reconstruction alone"


def _groups(records: Sequence[TrialRecord], split: Split) -> Groups:
    """{(tokens, weight, other settings): {seed: values}} of complete trials with both settings among their own."""
    groups: Groups = {}
    for r in records:
        if r.is_complete_trial and {CRITIC_WEIGHT, SEED} <= r.params.keys() and split.prefix + AGREEMENT in r.values:
            key = r.tokens, float(r.params[CRITIC_WEIGHT]), other_settings(r, CRITIC_WEIGHT, SEED)
            values = {**_of_split(r, split), "device_seconds": r.device_seconds or 0.0}
            groups.setdefault(key, {})[r.params[SEED]] = values
    return groups


def _of_split(record: TrialRecord, split: Split) -> dict[str, float]:
    """The compared metrics on those pictures, without their prefix."""
    return {name: record.values[split.prefix + name] for name in COMPARED if split.prefix + name in record.values}


def _baselines(records: Sequence[TrialRecord], tokens: int, split: Split) -> dict[str, Values]:
    return {name: _of_split(record, split) for name, record in baselines_at(records, tokens).items()}


def _against_the_same(
    tokens: int, weight: float, runs: Mapping[int, Values], without: Mapping[int, Values], strided: Values | None
) -> list[Comparison]:
    """Without critic, paired by seed."""
    pairs = [(runs[seed], without[seed]) for seed in sorted(runs.keys() & without.keys())]
    if not pairs:
        return []
    whole = {name: estimate([ours[name] - theirs[name] for ours, theirs in pairs]) for name in COMPARED}
    found = [Comparison(tokens, training(weight), "the same without critic", len(pairs), whole)]
    if strided:
        end = strided["distortion"], strided[AGREEMENT]
        moved = [ours[AGREEMENT] - agreement_at(ours["distortion"], theirs, end) for ours, theirs in pairs]
        other = "the same without critic, at equal distortion"
        found.append(Comparison(tokens, training(weight), other, len(pairs), {AGREEMENT: estimate(moved)}))
    return found


def _against_baselines(tokens: int, weight: float, runs: Sequence[Values], free: Free) -> list[Comparison]:
    found = []
    for code, title in LINEAR.items():
        if theirs := free.get(code):
            above = {name: estimate([run[name] - theirs[name] for run in runs]) for name in COMPARED if name in theirs}
            found.append(Comparison(tokens, training(weight), title, len(runs), above))
    if all(name in free for name in CURVE):
        at = mixing_curve([(free[name]["distortion"], free[name]["perception"]) for name in CURVE])
        above = {"perception": estimate([run["perception"] - at(run["distortion"]) for run in runs])}
        found.append(Comparison(tokens, training(weight), "the mixing curve", len(runs), above))
    return found


def agreement_at(distortion: float, without: Values, strided: tuple[float, float]) -> float:
    """The embedding agreement that a training without critic would have at a higher distortion: its tokens are moved
    towards strided ones, (distortion, agreement), which costs nothing, on a straight line. Its own where the distortion
    asked for is no higher than its own."""
    share = max(0.0, distortion - without["distortion"]) / (strided[0] - without["distortion"])
    return without[AGREEMENT] + share * (strided[1] - without[AGREEMENT])


def mixing_curve(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The least perception that the mixing curve has at a distortion or below it, between its points on a line.
    `points` are (distortion, perception). Below its lowest distortion the curve has nothing to offer: there its nearest
    point stands for it, which is also worse in distortion."""
    distortions, perceptions = np.array(sorted(points)).T

    def at(distortion: float) -> float:
        reached = perceptions[distortions <= distortion]
        return float(min(np.interp(distortion, distortions, perceptions), *reached) if len(reached) else perceptions[0])

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
        lines = [f"Minus {other}, mean over seeds ± half the 95 % interval:", ""]
        lines += [f"| tokens | training | seeds | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
        for c in rows:
            verdicts = " | ".join(verdict(c.differences[name]) for name in names)
            lines.append(f"| {c.tokens} | {c.name} | {c.seeds} | {verdicts} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
