"""The ranges of settings by kind: counts, sizes, weights, paths."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

# Upper ends are far beyond what a machine can hold or a person can wait for: a slip of the keyboard is refused at once.
MOST_BYTES, MOST_BYTES_OF_A_NAME = 4095, 255  # of a path, and of each part of it
MOST_WEIGHT = 1e38  # finite in fp32


def _no_truth(value: Any) -> Any:
    """Python takes true for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_truth)]
Real = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]

SMALLEST_SHARE = 0.0001  # of a CPU or GPU


def _countable(value: float) -> float:
    """As Ray counts."""
    if (value > 1 and value % 1) or 0 < value < SMALLEST_SHARE:
        raise ValueError(f"must be a whole number, or a part of one from {SMALLEST_SHARE} on")
    return value


Countable = Annotated[Real, AfterValidator(_countable)]  # CPUs or GPUs
Positive = Annotated[Whole, Field(ge=1, le=10**9)]
MOST_OF_A_SIZE, MOST_ON_A_SIDE = 2**16, 256  # the second of tokens along one side of an encoder's grid
Size = Annotated[Whole, Field(ge=1, le=MOST_OF_A_SIZE)]  # channels, pixels, pictures of a batch
Depth = Annotated[Whole, Field(ge=0, le=100)]  # layers one after the other
Threads = Annotated[Whole, Field(ge=1, le=1024)]

Moment = Annotated[Real, Field(ge=0, le=10**11)]  # seconds since the epoch

Rate = Annotated[Real, Field(gt=0, le=1)]
Fraction = Annotated[Real, Field(ge=0, lt=1)]
Weight = Annotated[Real, Field(ge=0, le=MOST_WEIGHT)]
Beta = Annotated[Real, Field(ge=0, lt=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Channel = Annotated[Real, Field(ge=-1000, le=1000)]  # mean of a colour, pixels being in [0, 1]
Channel3 = tuple[Channel, Channel, Channel]
Spread = Annotated[Real, Field(ge=1e-3, le=1000)]  # its standard deviation
Spread3 = tuple[Spread, Spread, Spread]


def one_of(known: Collection[str]) -> AfterValidator:
    """A name among `known`."""

    def check(value: str) -> str:
        if value not in known:
            raise PydanticCustomError("one_of", "must be one of {known}", {"known": ", ".join(known)})
        return value

    return AfterValidator(check)


def _text(value: str) -> str:
    """Text that can be stored: it is Unicode, and has no NUL, which ends a name for the system."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", "must be text in UTF-8") from None
    if "\0" in value:
        raise PydanticCustomError("text", "must not contain the character NUL")
    return value


def _usable(path: Path) -> Path:
    """A path that a disk can have; `~` is the home folder."""
    expanded = os.path.expanduser(_text(str(path)))
    parts = expanded.encode().split(b"/")
    if len(expanded.encode()) > MOST_BYTES or max(map(len, parts)) > MOST_BYTES_OF_A_NAME:
        raise PydanticCustomError(
            "path",
            "must have at most {path} bytes, and {name} between two slashes",
            {"path": MOST_BYTES, "name": MOST_BYTES_OF_A_NAME},
        )
    return Path(expanded)


def _named(value: Any) -> Any:
    if value == "":
        raise PydanticCustomError("path", "must name a file or folder; null is none")
    return value


Text = Annotated[str, Field(min_length=1, max_length=MOST_BYTES), AfterValidator(_text)]
FileText = Annotated[Text, AfterValidator(os.path.expanduser)]  # a file, or a name that somebody else knows
FilePath = Annotated[Path, BeforeValidator(_named), AfterValidator(_usable)]
