"""One row of results, as tracking and the report see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


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
