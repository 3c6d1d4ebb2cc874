"""What could be a value of a setting, by its size: nothing is deeper, longer or larger than settings are."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

DEEPEST = 20  # lists within each other
MOST_VALUES = 1000  # in one setting
LARGEST = 2**63  # whole numbers beyond it are no number of anything here


def is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Whether a value could be one of a setting: no deeper, no longer and no larger than those are."""
    if isinstance(value, Mapping | list | tuple):
        items = [*value, *value.values()] if isinstance(value, Mapping) else value
        return depth > 0 and len(items) <= MOST_VALUES and all(is_plain(item, depth - 1) for item in items)
    if isinstance(value, int):
        return abs(value) < LARGEST
    return value is None or isinstance(value, str | float)


def depth_of(written: str) -> int:
    """How many brackets are open at most."""
    return max(accumulate((character in "[{(") - (character in "]})") for character in written), default=0)
