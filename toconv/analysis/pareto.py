"""Which trials no other trial beats (the Pareto front), and which to take at each number of tokens."""

from collections.abc import Mapping, Sequence

from toconv.analysis.records import Kind, State, TrialRecord, baselines_at

Costs = tuple[float, ...]  # smaller is better
REFERENCES = {  # baselines to be held against
    "pool": "average pooling",
    "linear": "the linear code, per-block PCA shrunk and completed",
}


def costs(tokens: int, values: Mapping[str, float], objectives: Mapping[str, str]) -> Costs:
    """The tokens and every objective, maximised ones negated."""
    return tokens, *(
        -values[name] if direction == "maximize" else values[name]
        for name, direction in objectives.items()
        if name != "tokens"
    )


def nondominated(points: Mapping[str, Costs]) -> set[str]:
    """The names of the points that no other is as good as everywhere and better than somewhere. The best by each
    objective is always among them."""
    kept: set[str] = set()
    front: list[Costs] = []
    for name, point in sorted(points.items(), key=lambda item: item[1]):  # who beats a point comes before it
        if not any(all(x <= y for x, y in zip(other, point, strict=True)) and other != point for other in front):
            kept.add(name)
            front.append(point)
    return kept


def front(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> list[TrialRecord]:
    """Complete trials that no other complete trial beats: as few tokens, as good in every objective, better in
    one. By rising tokens, then by the first objective."""
    complete = {r.trial_id: r for r in records if r.is_complete_trial}
    points = {name: costs(r.tokens, r.values, objectives) for name, r in complete.items()}
    return [complete[name] for name in sorted(nondominated(points), key=lambda name: points[name])]


def recommended(records: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """{tokens: the complete trial of the lowest validation distortion}: which compressor to take at each budget."""
    complete = [r for r in records if r.is_complete_trial]
    return {
        tokens: min((r for r in complete if r.tokens == tokens), key=lambda r: r.values["distortion"])
        for tokens in sorted({r.tokens for r in complete})
    }


def against(records: Sequence[TrialRecord], baseline: str) -> list[str]:
    """For each number of tokens one sentence: the recommended trial's distortion against that baseline's."""
    lines = []
    for tokens, best in recommended(records).items():
        reference = baselines_at(records, tokens).get(baseline)
        if reference is None:
            continue
        ours, theirs = best.values["distortion"], reference.values["distortion"]
        verdict = f"{100 * (1 - ours / theirs):.1f} % below" if ours < theirs else "NOT below"
        lines.append(
            f"{tokens} tokens: best distortion {ours:.4f} ({best.name}), {verdict} {REFERENCES[baseline]} "
            f"({theirs:.4f})"
        )
    return lines


def named(records: Sequence[TrialRecord], kind: Kind | None = None, state: State | None = None) -> list[TrialRecord]:
    """The records of that kind and that state."""
    return [r for r in records if kind in {None, r.kind} and state in {None, r.state}]
