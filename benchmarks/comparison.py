"""Two pieces of work timed in turns in one process, so that a noisy machine slows both alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
Work = Callable[[], Any]


@dataclass(frozen=True)
class Ratio:
    """A line of bench.json. `floor` is what must be reached, `spread` half the range between the quartiles."""

    name: str
    ratio: float
    floor: float
    higher_is_better: bool
    spread: float
    says: str = field(default="", compare=False)  # what was measured against what, in numbers
    limit: str = field(default="", compare=False)  # what keeps it from more
    not_applicable: str | None = None  # why this processor cannot reach the floor, whatever is run on it

    @property
    def meets(self) -> bool | None:
        """None where the floor does not apply."""
        if self.not_applicable:
            return None
        return self.ratio >= self.floor if self.higher_is_better else self.ratio <= self.floor

    @property
    def verdict(self) -> str:
        if self.not_applicable:
            return f"not applicable: {self.not_applicable}"
        return "met" if self.meets else "not met"

    @property
    def quoted(self) -> str:
        """The ratio with its spread, where it was measured more than once."""
        return f"{self.ratio:.2f}" + (f" ± {self.spread:.2f}" if self.spread else "")

    def as_json(self) -> dict[str, Any]:
        values = {key: value for key, value in asdict(self).items() if key not in {"says", "limit"}}
        return values | {"meets": self.meets}


def processor() -> str:
    """Its name, and its features that decide how fast it multiplies in bf16."""
    cpu = torch.cpu.get_capabilities()
    features = [text for key, text in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16")) if cpu.get(key)]
    return ", ".join([cpu.get("cpu_name", platform.machine()), *features])


def seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(*works: Work, rounds: int, warm_up: int = 2) -> list[list[float]]:
    """Seconds of each work in each round; a round runs all of them, one after the other."""
    for _ in range(warm_up):
        for work in works:
            work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for found, work in zip(times, works, strict=True):
            found.append(seconds(work))
    return times


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The median and half the distance between the quartiles (0 for a single value)."""
    if len(values) < 2:
        return values[0], 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, (high - low) / 2


def ratio_of(
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    floor: float,
    says: str,
    limit: str = "",
    higher_is_better: bool = True,
) -> Ratio:
    """The median over the rounds of over/under."""
    middle, spread = median_and_spread([a / b for a, b in zip(over, under, strict=True)])
    return Ratio(name, middle, floor, higher_is_better, spread, says, limit)


def show(ratios: Sequence[Ratio]) -> None:
    """Print each line as it would stand in docs/performance.md."""
    from toconv.progress import console  # rich, which the measurements on a GPU do without

    for r in ratios:
        sign = "≥" if r.higher_is_better else "≤"
        console.print(f"{r.name}: {r.quoted} (floor {sign} {r.floor:g}, {r.verdict}); {r.says}", highlight=False)
