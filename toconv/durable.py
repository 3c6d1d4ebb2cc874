"""A training in a folder: every epoch is on disk before anybody hears of it.

A checkpoint holds the rows of its epochs; metrics.jsonl is what others read of them, and never runs ahead.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from toconv import checkpoint
from toconv.errors import CheckpointError, MachineryError
from toconv.paths import TrialPaths, link, write_atomic
from toconv.training import OnLog, Training


class DurableTraining:
    """Runs `training` in `paths.folder`, going on from its latest checkpoint or from `resume`."""

    def __init__(self, training: Training, paths: TrialPaths, resume: Path | None = None) -> None:
        self.training, self.paths = training, paths
        self.notes: list[str] = []
        self._rows: list[dict[str, Any]] = []
        paths.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            state = checkpoint.load(resume)
            training.load_state_dict(state)
            self._rows = state["rows"]
            if resume == paths.latest:
                self._name_checkpoint()  # an interruption may have come between a save and its names
        write_atomic(paths.metrics, "".join(map(_line, self._rows)))
        settings = training.settings.model_dump(mode="json")
        write_atomic(paths.config, yaml.safe_dump(settings, sort_keys=False))

    @classmethod
    def adopt(cls, training: Training, paths: TrialPaths) -> DurableTraining:
        """Go on from what lies in the folder: the newest readable checkpoint, or the beginning."""
        notes = []
        for candidate in [paths.latest, *reversed(epoch_checkpoints(paths))]:
            try:
                if candidate.exists():
                    durable = cls(training, paths, resume=candidate)
                    durable.notes += notes
                    return durable
            except CheckpointError as error:
                notes.append(str(error))
        durable = cls(training, paths)
        durable.notes += notes
        return durable

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The epochs so far: {epoch, timestamp (ms), seconds (all so far), metrics}."""
        return list(self._rows)

    def epochs(self, on_log: OnLog | None = None) -> Iterator[dict[str, Any]]:
        """Train on, yielding each epoch's row once its metrics and checkpoint are on disk."""
        before, start = (self._rows[-1]["seconds"] if self._rows else 0.0), time.perf_counter()
        for result in self.training.epochs(on_log):
            row = {"epoch": result.epoch, "timestamp": time.time_ns() // 1_000_000,
                   "seconds": round(before + time.perf_counter() - start, 3), "metrics": result.metrics}
            self._rows.append(row)
            checkpoint.save(self.paths.latest, {**self.training.state_dict(), "rows": self._rows})
            self._name_checkpoint()
            self._publish(row)
            yield row

    def _name_checkpoint(self) -> None:
        """Give the latest checkpoint the other names that are its due, and drop superseded ones."""
        paths, training = self.paths, self.training
        t = training.settings.training
        try:
            if training.best_epoch == training.epoch:
                link(paths.latest, paths.best)
            if training.epoch % t.checkpoint_every == 0 or training.epoch == t.epochs:
                link(paths.latest, paths.epoch(training.epoch))
        except OSError as error:
            raise MachineryError(f"{paths.folder}: checkpoint not named ({error.strerror})") from error
        for superseded in epoch_checkpoints(paths)[:-t.keep_last_n]:
            superseded.unlink()

    def _publish(self, row: dict[str, Any]) -> None:
        try:
            with self.paths.metrics.open("a") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MachineryError(f"{self.paths.metrics}: not written ({error.strerror})") from error


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The epochs of a metrics.jsonl; a line torn by an interruption is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def epoch_checkpoints(paths: TrialPaths) -> list[Path]:
    """checkpoint_epoch_N.pt of the folder, by rising N."""
    found = {int(m[1]): p for p in paths.folder.glob("checkpoint_epoch_*.pt")
             if (m := re.fullmatch(r"checkpoint_epoch_(\d+)\.pt", p.name))}
    return [found[n] for n in sorted(found)]
