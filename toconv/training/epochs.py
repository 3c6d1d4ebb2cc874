"""The epochs of a training, as metrics.jsonl holds them: a training writes them, everybody reads them here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, FiniteFloat, TypeAdapter, ValidationError

from toconv.errors import CheckpointError
from toconv.state_files import read_json_lines

TRAINED = ("settings", "store", "epochs")  # what the checkpoint of a training holds, and no other checkpoint


def _with_distortion(metrics: dict[str, float]) -> dict[str, float]:
    if "distortion" not in metrics:
        raise ValueError("an epoch has a distortion")
    return metrics


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch."""

    epoch: int  # from 1
    timestamp: int  # ms
    seconds: FiniteFloat  # of training, this epoch and all before
    metrics: Annotated[dict[str, FiniteFloat], AfterValidator(_with_distortion)]

    def as_row(self) -> dict[str, Any]:
        return asdict(self)

    def as_line(self) -> str:
        return json.dumps(self.as_row()) + "\n"


ROW = TypeAdapter(Epoch)
ROWS = TypeAdapter(list[Epoch])


def read_epochs(path: Path) -> list[Epoch]:
    """The epochs of a metrics.jsonl, up to a line torn by an interruption. [] where there is none. Raises DamagedFile
    where it is no file that can be read."""
    return read_json_lines(path, ROW)


def epochs_in(state: Mapping[str, Any], path: Path) -> list[Epoch]:
    """Those of the checkpoint at `path`. Raises CheckpointError where it has none."""
    try:
        return ROWS.validate_python(state["epochs"])
    except ValidationError as error:
        raise CheckpointError(f"{path}: holds no epochs of a training") from error
