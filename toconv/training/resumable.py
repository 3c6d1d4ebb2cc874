"""A training in a folder: every epoch is on disk before anybody hears of it.

A checkpoint holds its epochs; metrics.jsonl is what others read of them, and never runs ahead."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import yaml

from toconv import checkpoint
from toconv.errors import CheckpointError, disk
from toconv.machine import EpochMeter
from toconv.paths import TrialPaths, append_line, link, write_atomic
from toconv.training.epochs import TRAINED, Epoch, epochs_in
from toconv.training.folder import differences
from toconv.training.loop import EpochResult, OnLog, Training
from toconv.training.partial_epoch import Leave, LeftEpoch, never
from toconv.training.warm_restart import Extended, begin_at_end, restart_schedule

SECONDS = "seconds"  # of a checkpoint from within an epoch: how long that had taken


class ResumableTraining:
    """Runs `training` in `paths.folder`, going on from its latest checkpoint or from `resume`."""

    def __init__(
        self, training: Training, paths: TrialPaths, resume: Path | None = None, extends: Extended | None = None
    ) -> None:
        self.training, self.paths = training, paths
        self.notes: list[str] = []
        self._epochs: list[Epoch] = []
        self._seconds = 0.0  # that the epoch had taken in which an earlier process left
        paths.folder.mkdir(parents=True, exist_ok=True)
        if resume:
            state = checkpoint.load(resume, TRAINED)
            training.load_state_dict(state)
            self._epochs, self._seconds = epochs_in(state, resume), state.get(SECONDS, 0.0)
            if resume == paths.latest:
                self._name_checkpoint()  # an interruption may have come between a save and its names
        elif extends:
            self._epochs = begin_at_end(training, extends)
        write_atomic(paths.metrics, "".join(epoch.as_line() for epoch in self._epochs))
        settings = training.settings.model_dump(mode="json")
        write_atomic(paths.config, yaml.safe_dump(settings, sort_keys=False))

    @classmethod
    def adopt(cls, training: Training, paths: TrialPaths, extends: Extended | None = None) -> ResumableTraining:
        """Go on from what lies in the folder: the newest readable checkpoint, or the beginning, which of an extension
        is the end of the training that it `extends`. Raises CheckpointError where that end cannot be read."""
        notes: list[str] = []
        if extends:
            restart_schedule(training, extends.epoch)
        for candidate in [*_interrupted(paths), paths.latest, *reversed(epoch_checkpoints(paths))]:
            try:
                if candidate.exists():
                    _check_owner(candidate, training)
                    resumable = cls(training, paths, resume=candidate)
                    break
            except CheckpointError as error:
                notes.append(str(error))
        else:
            resumable = cls(training, paths, extends=extends)
        resumable.notes += notes
        return resumable

    @property
    def done(self) -> list[Epoch]:
        """The epochs so far."""
        return list(self._epochs)

    def epochs(self, on_log: OnLog | None = None, leave: Leave = never) -> Generator[Epoch]:
        """Train on, yielding each epoch once its metrics and checkpoint are on disk. Raises LeftEpoch where `leave`
        says so before a step; what was trained by then is on disk, and the next process goes on there."""
        is_measured = self.training.settings.experiment.system_metrics
        with EpochMeter(self.paths.machine) if is_measured else nullcontext() as machine:
            before = self._seconds + (self._epochs[-1].seconds if self._epochs else 0.0)
            start = time.perf_counter() - before
            try:
                yield from self._epochs_beside(machine, self.training.epochs(on_log, leave), start)
            except LeftEpoch:
                self._keep_partial(time.perf_counter() - start)
                raise

    def _keep_partial(self, seconds: float) -> None:
        """`seconds`: of the whole training so far."""
        if self.training.partial and self.training.partial.steps:
            done, rows = (self._epochs[-1].seconds if self._epochs else 0.0), [e.as_row() for e in self._epochs]
            state = {**self.training.state_dict(), "epochs": rows, SECONDS: max(0.0, seconds - done)}
            checkpoint.save(self.paths.interrupted, state)

    def _epochs_beside(
        self, machine: EpochMeter | None, results: Iterator[EpochResult], start: float
    ) -> Iterator[Epoch]:
        for result in results:
            seconds = round(time.perf_counter() - start, 3)
            epoch = Epoch(result.epoch, time.time_ns() // 1_000_000, seconds, result.metrics)
            self._epochs.append(epoch)
            rows = [known.as_row() for known in self._epochs]
            checkpoint.save(self.paths.latest, {**self.training.state_dict(), "epochs": rows})
            self._name_checkpoint()
            if machine:  # before the epoch is there for others, who take both at once
                machine.note(epoch.epoch)
            with disk(f"{self.paths.metrics}: not written"):
                append_line(self.paths.metrics, epoch.as_row())
            self.paths.interrupted.unlink(missing_ok=True)
            yield epoch

    def _name_checkpoint(self) -> None:
        """Give the latest checkpoint the other names that are its due, and drop superseded ones."""
        paths, training = self.paths, self.training
        t = training.settings.training
        with disk(f"{paths.folder}: checkpoint not named"):
            if training.best_epoch == training.epoch:
                link(paths.latest, paths.best)
            if training.epoch % t.checkpoint_every == 0 or training.epoch == t.epochs:
                link(paths.latest, paths.epoch(training.epoch))
        own = [path for n, path in paths.by_epoch().items() if n <= training.epoch]  # none that it has yet to reach
        for superseded in own[: -t.keep_last_n]:
            superseded.unlink()


def epoch_checkpoints(paths: TrialPaths) -> list[Path]:
    """checkpoint_epoch_N.pt of the folder, by rising N."""
    return list(paths.by_epoch().values())


def _interrupted(paths: TrialPaths) -> list[Path]:
    """The checkpoint from within an epoch, unless that epoch is done."""
    if not paths.interrupted.exists():
        return []
    try:
        began = checkpoint.glance(paths.interrupted, TRAINED)["epoch"]
        is_done = paths.latest.exists() and checkpoint.glance(paths.latest, TRAINED)["epoch"] > began
    except CheckpointError:  # of whichever cannot be read the one that tries it tells
        is_done = False
    return [] if is_done else [paths.interrupted]


def _check_owner(path: Path, training: Training) -> None:
    """Raises CheckpointError where the checkpoint is of a training with other settings."""
    differing = differences(checkpoint.glance(path, TRAINED), training.settings)
    if differing:
        raise CheckpointError(f"{path}: is of another training ({', '.join(differing)} differ)")
