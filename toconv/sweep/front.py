"""Which trials no other trial beats. The best by each objective is always among them."""

from __future__ import annotations

from collections.abc import Mapping

Costs = tuple[float, ...]  # smaller is better


def costs(tokens: int, values: Mapping[str, float], objectives: Mapping[str, str]) -> Costs:
    """The tokens and every objective, maximised ones negated."""
    return tokens, *(-values[name] if direction == "maximize" else values[name]
                     for name, direction in objectives.items() if name != "tokens")


def nondominated(points: Mapping[str, Costs]) -> set[str]:
    """The names of the points that no other is as good as everywhere and better than somewhere."""
    kept, front = set(), []
    for name, point in sorted(points.items(), key=lambda item: item[1]):  # who beats a point comes before it
        if not any(all(x <= y for x, y in zip(other, point, strict=True)) and other != point for other in front):
            kept.add(name)
            front.append(point)
    return kept
