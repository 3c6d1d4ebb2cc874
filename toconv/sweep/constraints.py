"""Constraints of a sweep file: bounds on what is measured of a trial, for the sampler and whoever reads the results."""

import math
import re
from collections.abc import Mapping

BOUND = re.compile(r"\s*(>=|<=)\s*([-+]?\d*\.?\d+(?:[eE][-+]?\d{1,3})?)\s*")
Constraints = Mapping[str, str]  # {metric: bound}


def bound(text: str) -> str:
    """`>=0.9` of `>= 0.9`. Raises ValueError where it is no bound."""
    found = BOUND.fullmatch(text)
    if not found or not math.isfinite(float(found[2])):
        raise ValueError('must read ">= NUMBER" or "<= NUMBER"')
    return f"{found[1]}{found[2]}"


def violations(constraints: Constraints, values: Mapping[str, float]) -> dict[str, float]:
    """By how much each bound is missed, 0 and less where it holds; of the metrics that were measured."""
    found = {}
    for name, text in constraints.items():
        if name in values:
            excess = values[name] - float(text[2:])
            found[name] = excess if text.startswith("<=") else -excess
    return found


def violated(constraints: Constraints, values: Mapping[str, float]) -> str:
    """`embedding_agreement>=0.9`, those that do not hold; empty where all do."""
    found = violations(constraints, values)
    return " ".join(f"{name}{constraints[name]}" for name, excess in found.items() if excess > 0)
