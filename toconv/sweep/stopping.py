"""When a cell has had trials enough: `stop_when` of a sweep file, and the course of the hypervolume that it goes by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from toconv.ranges import Whole
from toconv.settings import Group

PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")
MARGIN = 0.1  # of the range of the first trials' values, by which the reference point is beyond the worst


def percent(text: str) -> str:
    """`0.5 %` of `0.5%`. Raises ValueError where it is no share."""
    found = PERCENT.fullmatch(text)
    if not found or not 0 < float(found[1]) < 100:
        raise ValueError('must read "NUMBER %", above 0 % and below 100 %')
    return f"{found[1]} %"


class StopWhen(Group):
    """A cell begins no more trials where the last `over_trials` of them that are complete added less than this share to
    its hypervolume."""

    hypervolume_gain_below: Annotated[str, AfterValidator(percent)]
    over_trials: Annotated[Whole, Field(ge=1, le=10_000)]

    @property
    def share(self) -> float:
        return float(self.hypervolume_gain_below.removesuffix(" %")) / 100


@dataclass(frozen=True)
class Course:
    """The hypervolume of a cell's complete trials, one after the other, between their front and a reference point that
    stands once the first `first` are complete: of each objective their worst value and MARGIN of their range beyond."""

    first: int
    reference: Mapping[str, float]  # by objective
    values: tuple[float, ...]  # after so many trials as `first` and each one more

    def gain(self, trials: int) -> float | None:
        """What the last so many added, as a share of all; None where there are fewer, 0 where there is no volume."""
        if len(self.values) <= trials:
            return None
        now, before = self.values[-1], self.values[-1 - trials]
        return (now - before) / now if now else 0.0

    def is_enough(self, asked: StopWhen) -> bool:
        gain = self.gain(asked.over_trials)
        return gain is not None and gain < asked.share
