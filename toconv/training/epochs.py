"""The epochs of a training, as metrics.jsonl holds them: a training writes them, everybody reads them here."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toconv.paths import read_json_lines


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch."""

    epoch: int  # from 1
    timestamp: int  # ms
    seconds: float  # of training, this epoch and all before
    metrics: dict[str, float]

    def as_row(self) -> dict[str, Any]:
        return asdict(self)

    def as_line(self) -> str:
        return json.dumps(self.as_row()) + "\n"


def read_epochs(path: Path) -> list[Epoch]:
    """The epochs of a metrics.jsonl; a line torn by an interruption is left out. [] where there is none."""
    return [Epoch(**row) for row in read_json_lines(path)]
