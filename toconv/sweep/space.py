"""What a search proposes: ranges and choices, and the conditions under which they count."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from toconv.config import shown
from toconv.ranges import Real
from toconv.setting_names import as_declared, number_type
from toconv.settings import Group

MOST_VALUES = 10**5  # that are enumerated
MOST_POINTS = 10**9  # of a range in steps
Params = dict[str, Any]
WHOLE = 2**53  # whole numbers above it are not all numbers of a float
MOST_CHOICES = 1000
Choices = Annotated[list[Any], Field(min_length=1, max_length=MOST_CHOICES)]


class Distribution(Group):
    """One searched setting: a range `{low, high, log, step, type}` or `{choices: [...]}`. With `when: {setting: value
    or [values]}` it is searched only in trials where these hold."""

    low: Real | None = None
    high: Real | None = None
    log: bool = False
    step: Annotated[Real, Field(gt=0)] | None = None
    type: Literal["float", "int"] = "float"
    choices: Choices | None = None
    when: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_kind(self) -> Distribution:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("give either choices or low and high, not both")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, got low={self.low}, high={self.high}")
        if self.log and (self.low <= 0 or self.step):
            raise ValueError(f"log: true needs low > 0 and no step, got low={self.low}, step={self.step}")
        if self.step and (self.high - self.low) / self.step > MOST_POINTS:
            raise ValueError(
                f"step={self.step} makes more than {MOST_POINTS:,} points of low={self.low} to high={self.high}; leave "
                "step out for a range without steps"
            )
        if self.high - self.low == math.inf:
            raise ValueError(f"high - low must be a number below 1.8e308, got low={self.low}, high={self.high}")
        return self.whole() if self.type == "int" else self

    def whole(self) -> Distribution:
        """The same in whole numbers. Raises ValueError where its range has none."""
        for name, value in (("low", self.low), ("high", self.high), ("step", self.step)):
            if value is not None and (value % 1 or abs(value) > WHOLE):
                raise ValueError(f"takes whole numbers up to 2^53, got {name}={value}")
        return self if self.type == "int" else self.model_copy(update={"type": "int"})

    @property
    def range(self) -> tuple[float, float]:
        """low and high, of one that has no choices."""
        assert self.low is not None and self.high is not None  # _one_kind
        return self.low, self.high

    @property
    def stated(self) -> str:
        """`0.1 to 100, log`, `one of 4, 6 where model.decoder.kind=attention`"""
        if self.choices is not None:
            told = f"one of {', '.join(map(shown, self.choices))}"
        else:
            low, high = self.extremes()
            told = f"{low:g} to {high:g}" + (", log" if self.log else "")
            told += f" in steps of {self.step:g}" if self.step else ""
        where = " and ".join(f"{key}={shown(value)}" for key, value in self.when.items())
        return f"{told} where {where}" if where else told

    def extremes(self) -> list[Any]:
        """Values whose validity decides that of all: both ends, or every choice."""
        if self.choices is not None:
            return self.choices
        return [int(v) if self.type == "int" else v for v in self.range]

    def values(self) -> list[Any] | None:
        """Every value where they can be enumerated and are not more than MOST_VALUES, else None."""
        if self.choices is not None:
            return self.choices
        step, (low, high) = self._step, self.range
        if step is None or (high - low) / step >= MOST_VALUES:
            return None
        values = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
        return [int(v) for v in values] if self.type == "int" else values

    def allows(self, value: Any) -> bool:
        """Whether a search could propose this value."""
        if self.choices is not None:
            return value in self.choices
        low, high = self.range
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return False
        nearest = low + round((value - low) / self._step) * self._step if self._step else value
        return (self.type == "float" or value % 1 == 0) and math.isclose(value, nearest)

    @property
    def _step(self) -> float | None:
        """Between two values that may be proposed; None where any may."""
        return self.step or (1 if self.type == "int" and not self.log else None)

    def active(self, known: Mapping[str, Any]) -> bool:
        """Whether every condition holds among the values known so far."""
        return all(
            known.get(key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in self.when.items()
        )


Space = dict[str, Distribution]


def active_only(space: Space, fixed: Mapping[str, Any], params: Mapping[str, Any]) -> Params:
    """`params` without those whose conditions do not hold; `fixed` are the settings that are not searched."""
    kept: Params = {}
    for key, distribution in space.items():
        if key in params and distribution.active({**fixed, **kept}):
            kept[key] = params[key]
    return kept


def size(space: Space, fixed: Mapping[str, Any], most: int) -> int:
    """How many different points the space has, `most` where it has as many or more."""
    if any(d.values() is None for d in space.values()):
        return most
    return sum(1 for _ in itertools.islice(points(space, fixed), most))


def points(space: Space, fixed: Mapping[str, Any]) -> Iterator[Params]:
    """Every different point of a space that can be enumerated, the last setting changing fastest. A setting counts only
    where its conditions hold, which are about settings above it."""
    if not space:
        yield {}
        return
    (key, distribution), *rest = space.items()
    if not distribution.active(fixed):
        yield from points(dict(rest), fixed)
        return
    for value in {repr(value): value for value in distribution.values() or []}.values():
        for below in points(dict(rest), {**fixed, key: value}):
            yield {key: value, **below}


def as_settings_take_them(space: Space) -> Space:
    """The space with a whole-number setting's range in whole numbers, whatever `type` says. Raises ValueError where a
    setting takes no range, or no value of it."""
    return {key: _in_the_type_of(key, d) for key, d in space.items()}


def _in_the_type_of(key: str, distribution: Distribution) -> Distribution:
    if distribution.choices is not None:
        return distribution
    try:
        kind = number_type(key)
        if kind is None:
            raise ValueError("is no number and has no range; give choices")
        return distribution.whole() if kind is int else distribution
    except KeyError:
        return distribution  # config names it
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def twice_mistakes(section: str, values: Mapping[str, list[Any]]) -> list[str]:
    """A value stands once: 1 and 1.0 are one value of a whole-number setting."""
    return [
        f"{section}.{key}: a value is given twice: {shown(given)}"
        for key, given in values.items()
        if len({repr(as_declared(key, value)) for value in given}) < len(given)
    ]


def condition_mistakes(space: Space, settings: Mapping[str, Any]) -> list[str]:
    """`when` may name a searched setting that stands above, or one that is not searched."""
    mistakes, above = [], set()
    for key, distribution in space.items():
        for name in distribution.when:
            if name in space and name not in above:
                mistakes.append(f"search.{key}.when: {name} must stand above {key} under search")
            elif name not in space and name not in settings:
                mistakes.append(f"search.{key}.when: {name}: no such setting")
        above.add(key)
    return mistakes


def start_mistakes(space: Space, points: list[Params]) -> list[str]:
    """`start_with` gives points of the space; settings that it leaves out are drawn."""
    return [f"start_with[{n}].{mistake}" for n, point in enumerate(points) for mistake in point_mistakes(space, point)]


def point_mistakes(space: Space, point: Mapping[str, Any]) -> list[str]:
    """Of values for some of the searched settings."""
    mistakes = []
    for key, value in point.items():
        if key not in space:
            mistakes.append(f"{key}: is not searched; searched are {', '.join(space)}")
        elif not space[key].allows(value):
            mistakes.append(f"{key}={shown(value)}: lies outside what search.{key} allows")
    return mistakes
