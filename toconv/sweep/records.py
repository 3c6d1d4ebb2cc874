"""One row of results, as tracking and the report see it, and the label by which people recognise it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from toconv.sweep.spec import GRID_SIZE

SYMBOLS = {GRID_SIZE: "k", "loss.lambda_gp": "λ", "training.n_critic": "n", "loss.wgan_weight": "w",
           "training.seed": "seed"}
UNNAMED = {"training.test"}  # every finalist has it


def label(params: Mapping[str, Any]) -> str:
    """`k=6 λ=3.2 n=5 w=0.04`: symbols for what every sweep has, the end of the dotted name for other settings."""
    named = [key for key in params if key not in UNNAMED]
    return " ".join(f"{_symbol(key, named)}={short(params[key])}" for key in named)


def short(value: Any) -> str:
    """Three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _symbol(key: str, keys: Iterable[str]) -> str:
    """A symbol, or as many of the last parts of `key` as no other of the keys ends with."""
    if key in SYMBOLS:
        return SYMBOLS[key]
    parts = key.split(".")
    ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return next(end for end in ends if not any(f".{other}".endswith(f".{end}") for other in keys if other != key))


@dataclass(frozen=True)
class TrialRecord:
    """A trial, a finalist or a baseline as it stands."""

    trial_id: str
    name: str
    kind: Literal["trial", "finalist", "baseline"]
    state: Literal["running", "complete", "pruned", "failed"]
    cell: str
    tokens: int  # k²
    params: dict[str, Any]  # searched settings, grid axes included
    values: dict[str, float]  # final metrics; empty while it runs and where it failed
    device_seconds: float | None
    folder: Path | None  # None for baselines
    reason: str | None  # of a failure
    finalist_of: str | None = None  # trial_id of the trial whose settings a finalist has
    kept: bool = False  # whether its checkpoints are there
    number: int | None = None  # Optuna's, within its study
    settings: Mapping[str, Any] = field(default_factory=dict)  # all that decide it, by dotted names, params included

    @property
    def label(self) -> str:
        """What people recognise it by: `k=6 λ=3.2 n=5 w=0.04`, `pool k=6`."""
        return f"{self.name} {label(self.params)}" if self.kind == "baseline" else label(self.params)
