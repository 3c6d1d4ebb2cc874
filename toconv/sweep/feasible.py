"""Which combinations of a space the rules between settings refuse: looked at before anything is drawn."""

from __future__ import annotations

import copy
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toconv import config
from toconv.rules import cross_field_mistakes
from toconv.sweep.space import Distribution, Params, Space, active_only

MOST = 10_000  # points that are looked at, of all cells together; of more than that they are drawn
FEW = 32  # points with a value, all refused, that say so of the value where points are drawn


@dataclass
class Survey:
    """What the rules say of one cell's combinations: of every setting that can be enumerated, while a range without a
    step stands with its ends and its middle."""

    fixed: Mapping[str, Any]
    enumerated: frozenset[str]  # the settings that make a combination
    whole: bool  # every combination was looked at
    verdicts: dict[str, str | None] = field(default_factory=dict)  # by combination: the rule that refuses it, or None
    first: Params | None = None  # of what is allowed, the cell's own settings included
    values: dict[tuple[str, str], list[str | None]] = field(default_factory=dict)  # by setting and value: verdicts

    @property
    def combinations(self) -> int:
        return len(self.verdicts)

    @property
    def refused(self) -> Counter[str]:
        """How many combinations each rule refuses, by what it says of one of them."""
        return by_rule(Counter(verdict for verdict in self.verdicts.values() if verdict))

    @property
    def allowed(self) -> int:
        return self.combinations - self.refused.total()

    def note(self, point: Params, verdict: str | None) -> None:
        """Enter a point; a combination is refused where each of its points is."""
        combination = repr({key: v for key, v in point.items() if key in self.enumerated})
        self.verdicts[combination] = verdict if self.verdicts.get(combination, verdict) else None
        for key, value in point.items():
            self.values.setdefault((key, repr(value)), []).append(verdict)
        if verdict is None and self.first is None:
            self.first = {**self.fixed, **point}


def survey_cells(overrides: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], space: Space) -> list[Survey]:
    """A survey of each cell, given by its settings. [] where the settings do not resolve, which config names."""
    surveys: list[Survey] = []
    trees: dict[str, dict[str, Any] | None] = {}
    options, most = config.groups(), max(2 * FEW, MOST // len(cells))
    for fixed in cells:
        chosen = {key: value for key, value in fixed.items() if key in options}
        if repr(chosen) not in trees:
            trees[repr(chosen)] = config.resolved({**overrides, **chosen})[0]
        tree = trees[repr(chosen)]
        if tree is None:
            return []
        surveys.append(_survey(tree, fixed, space, most))
    return surveys


def _survey(tree: Mapping[str, Any], fixed: Mapping[str, Any], space: Space, most: int) -> Survey:
    raw = copy.deepcopy(dict(tree))
    _put(raw, fixed)
    given = config.flat(raw)
    known = {key: value for key, value in given.items() if key not in space}
    axes = [_stand_ins(d) for d in space.values()]
    enumerated = frozenset(key for key, d in space.items() if _every(d) is not None)
    survey = Survey(fixed, enumerated, math.prod(map(len, axes)) <= most)
    for values in itertools.product(*axes) if survey.whole else _drawn(axes, most):
        point = active_only(space, known, dict(zip(space, values, strict=True)))
        _put(raw, {key: point.get(key, given.get(key)) for key in space})
        survey.note(point, next(iter(cross_field_mistakes(raw)), None))
    return survey


def _drawn(axes: Sequence[Sequence[Any]], count: int) -> Iterator[tuple[Any, ...]]:
    draw = random.Random(0)
    return (tuple(map(draw.choice, axes)) for _ in range(count))


def _every(d: Distribution) -> Sequence[Any] | None:
    """Every value where they can be enumerated, whole numbers on a log scale too."""
    values = d.values()
    if values is None and d.type == "int" and d.range[1] - d.range[0] < MOST:
        return range(int(d.range[0]), int(d.range[1]) + 1)
    return values


def _stand_ins(d: Distribution) -> Sequence[Any]:
    values = _every(d)
    if values is not None:
        return values
    low, high = d.extremes()
    middle = math.sqrt(low) * math.sqrt(high) if d.log else low + (high - low) / 2
    return [low, int(middle) if d.type == "int" else middle, high]


def _put(raw: dict[str, Any], params: Mapping[str, Any]) -> None:
    """Set dotted names in a tree; those that it does not have are left out."""
    for key, value in params.items():
        *groups, name = key.split(".")
        group: Any = raw
        for part in groups:
            group = group.get(part) if isinstance(group, dict) else None
        if isinstance(group, dict) and name in group and not isinstance(group[name], dict):
            group[name] = value


def combination_mistakes(surveys: Sequence[Survey], space: Space) -> list[str]:
    """Every cell needs a combination that is allowed, and so does every choice and every end of a range."""
    cells = [_all_refused(survey) for survey in surveys if not survey.allowed]
    if cells:
        return list(dict.fromkeys(cells))
    verdicts = {
        (key, repr(value)): [v for survey in surveys for v in survey.values.get((key, repr(value)), [])]
        for key, d in space.items()
        for value in d.extremes()
    }
    enough = 1 if all(survey.whole for survey in surveys) else FEW
    dead = [found[0] for found in verdicts.values() if len(found) >= enough and all(found)]
    return list(dict.fromkeys(str(mistake) for mistake in dead))


def _all_refused(survey: Survey) -> str:
    example, *others = {verdict: None for verdict in survey.verdicts.values() if verdict}
    if not others:
        return example
    where = ", ".join(f"{key}={value}" for key, value in survey.fixed.items())
    return f"{f'with {where} ' if where else ''}{refusals([survey])}"


def refusals(surveys: Sequence[Survey]) -> str:
    """`2 of 8 combinations are refused (2: model.decoder.heads=3: must divide …)`; "" where none is."""
    found = by_rule(sum((survey.refused for survey in surveys), Counter()))
    if not found:
        return ""
    count = sum(survey.combinations for survey in surveys)
    drawn = "" if all(survey.whole for survey in surveys) else " that were drawn"
    return f"{found.total()} of {count} combinations{drawn} are refused ({listed(found)})"


def by_rule(counts: Mapping[str, int]) -> Counter[str]:
    """Mistakes of one rule together, by the first of them: those that begin with the same setting."""
    examples: dict[str, str] = {}
    found: Counter[str] = Counter()
    for mistake, count in counts.items():
        found[examples.setdefault(mistake.partition("=")[0], mistake)] += count
    return found


def listed(refused: Mapping[str, int]) -> str:
    return "; ".join(f"{count}: {example}" for example, count in refused.items())
