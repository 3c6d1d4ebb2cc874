"""One trial on a worker: opened from plain values, stepped epoch by epoch. Knows no Ray."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from toconv.durable import DurableTraining
from toconv.errors import MachineryError, TrainingFailed
from toconv.hardware import keep_freed_memory, limit_threads, resolve_device
from toconv.machine import EpochMeter
from toconv.paths import TrialPaths, write_atomic
from toconv.settings import Settings
from toconv.tokens.store import TokenStore
from toconv.training import OnLog, Training

LOCK_SECONDS = 30.0  # a worker outlives a killed driver by seconds


@dataclass(frozen=True)
class TrialRequest:
    """Everything that a worker needs, as plain values."""

    settings: dict[str, Any]
    tokens: str  # folder of the token store
    folder: str
    threads: int


class Trial:
    """A durable training behind a lock on its folder."""

    def __init__(self, request: TrialRequest, on_log: OnLog | None = None) -> None:
        settings = Settings.model_validate(request.settings)
        self.paths = TrialPaths(Path(request.folder))
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.paths.lock)
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise MachineryError(f"{self.paths.folder}: another process trains in this folder") from error
        limit_threads(settings.hardware, request.threads)
        keep_freed_memory()
        training = Training(settings, TokenStore(Path(request.tokens)), resolve_device(settings.hardware))
        self.epochs_asked = settings.training.epochs
        self._durable = DurableTraining.adopt(training, self.paths)
        self._epochs: Iterator[dict[str, Any]] = self._durable.epochs(on_log)
        self._machine = EpochMeter(self.paths.machine) if settings.experiment.system_metrics else None

    @property
    def notes(self) -> list[str]:
        """What was found damaged when the folder was opened."""
        return self._durable.notes

    def next_epoch(self) -> dict[str, Any]:
        """The row of the next epoch, or the last row again where all are done."""
        row = next(self._epochs, None)
        if row is not None and self._machine:
            self._machine.note(row["epoch"])
        return row if row is not None else self._durable.rows[-1]

    def close(self) -> None:
        if self._machine:
            self._machine.close()
        self._lock.release()


def step(trial: Trial) -> dict[str, Any]:
    """An epoch's outcome as plain values: `row` and `complete`, or `failed` with the reason.

    A machine that gave way (`machinery`) is no verdict on the trial: it goes on at the next start.
    """
    try:
        row = trial.next_epoch()
    except TrainingFailed as error:
        return {"failed": str(error)}
    except MachineryError as error:
        return {"machinery": str(error)}
    except Exception as error:
        if out_of_memory(error):
            return {"failed": f"out of memory: {str(error).splitlines()[0]}", "infeasible": True}
        write_atomic(trial.paths.error, traceback.format_exc())
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return {"row": row, "complete": row["epoch"] >= trial.epochs_asked}


def out_of_memory(error: Exception) -> bool:
    """torch has a class for CUDA's and none for the CPU's."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
