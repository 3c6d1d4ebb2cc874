"""One trial on a worker: opened from plain values, stepped epoch by epoch. Knows no Ray."""

import math
import platform
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toconv.errors import CheckpointError, MachineryError, StoreError, TrainingFailed, first_line, out_of_memory
from toconv.hardware import keep_freed_memory, limit_threads, resolve_device, set_tf32
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths, write_atomic
from toconv.redaction import redact
from toconv.settings import Settings
from toconv.sweep.file import Sweep
from toconv.sweep.remote_trials import LeaveAsked, fetch_trial, send_file, send_trial
from toconv.sweep.versions import differing, versions
from toconv.sweep.watchdog import Watchdog
from toconv.tokens.local_cache import LocalCache
from toconv.tokens.remote import have_here
from toconv.tokens.store import TokenStore
from toconv.training.epochs import Epoch
from toconv.training.loop import OnLog, Training
from toconv.training.partial_epoch import LeftEpoch
from toconv.training.resumable import ResumableTraining
from toconv.training.warm_restart import Extended

LOCK_SECONDS = 30.0  # a worker outlives a killed driver by seconds


@dataclass(frozen=True)
class TrialInputs:
    """Everything that a worker needs, as plain values."""

    settings: dict[str, Any]
    store: str  # folder of the token store
    folder: str
    threads: int
    minutes: float | None = None  # that it may take
    extends: tuple[str, int] | None = None  # the checkpoint of the trial whose end it begins at, and its epoch
    versions: Mapping[str, str] = field(default_factory=dict)  # that the driver has, where it is another process


def trial_inputs(
    sweep: Sweep, params: Mapping[str, Any], store: Path, folder: TrialPaths, extends: tuple[str, int] | None = None
) -> TrialInputs:
    settings = sweep.settings(params).model_dump(mode="json")
    if Path(settings["encoder"]["weights"]).is_file():  # a worker has a working directory of its own
        settings["encoder"]["weights"] = str(Path(settings["encoder"]["weights"]).resolve())
    threads = max(1, math.floor(sweep.file.resources.cpu))
    minutes = sweep.file.limits.trial_minutes
    return TrialInputs(settings, str(store), str(folder.folder), threads, minutes, extends, versions())


class RunningTrial:
    """A resumable training behind a lock on its folder."""

    def __init__(self, inputs: TrialInputs, on_log: OnLog | None = None) -> None:
        if wrong := [*differing(platform.node(), versions(), inputs.versions)]:
            raise MachineryError("; ".join(wrong))
        settings = Settings.model_validate(inputs.settings)
        self.paths = TrialPaths(Path(inputs.folder))
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.paths.lock)
        try:
            self._lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise MachineryError(f"{self.paths.folder}: another process trains in this folder") from error
        self.paths.leave.unlink(missing_ok=True)  # meant for an earlier worker
        self.epochs_asked, self.stated = settings.training.epochs, ""  # nothing of one that is overdue
        self.uncopied: dict[str, str] = {}  # as TokenStore has it, of this machine
        self.remote: ObjectStore | None = None
        self._leave_asked: LeaveAsked | None = None
        self._epochs: Generator[Epoch] | None = None
        self._watchdog = Watchdog(self.paths, inputs.minutes)
        self.overdue, self.cannot_begin = self._watchdog.barked, ""
        try:
            if not self.overdue:
                self._open(settings, inputs, on_log)
        except BaseException:  # the process may have another trial next
            self.close()
            raise

    def _open(self, settings: Settings, inputs: TrialInputs, on_log: OnLog | None) -> None:
        self.remote = ObjectStore.asked(settings.store)
        limit_threads(settings.hardware, inputs.threads)
        set_tf32(settings.hardware)
        keep_freed_memory()
        cache = LocalCache.asked(settings.store)
        if self.remote:
            have_here(self.remote, Path(inputs.store), tokens=cache is None)
            fetch_trial(self.remote, self.paths)
            self._leave_asked = LeaveAsked(self.remote, self.paths)
        try:
            store = TokenStore(Path(inputs.store), cache)
        except StoreError as error:  # of a machine that joined, or of a disk: nothing that the trial could mend
            raise MachineryError(f"{platform.node()}: {error}") from error
        training = Training(settings, store, resolve_device(settings.hardware))
        self.uncopied = {f"{platform.node()}: {what}": why for what, why in store.uncopied.items()}
        lines = [f"{what}: {why}" for what, why in store.uncopied.items()]
        self.stated = "; ".join([training.stated, *lines])  # what the machine decided of it
        extends = Extended(Path(inputs.extends[0]), inputs.extends[1]) if inputs.extends else None
        if extends and self.remote:
            fetch_trial(self.remote, TrialPaths(extends.checkpoint.parent))
        try:
            self._resumable = ResumableTraining.adopt(training, self.paths, extends)
            self._epochs = self._resumable.epochs(on_log, self._is_to_leave)
        except CheckpointError as error:
            self.cannot_begin = str(error)

    def _is_to_leave(self) -> bool:
        return self.paths.leave.exists() or bool(self._leave_asked and self._leave_asked())

    def next_epoch(self) -> Epoch:
        """The next epoch, or the last one again where all are done."""
        assert self._epochs  # else the trial is overdue, or cannot begin
        try:
            epoch = next(self._epochs, None)
        except LeftEpoch:
            if self.paths.interrupted.exists():
                self.send(self.paths.interrupted)
            raise
        if epoch and self.remote:
            send_trial(self.remote, self.paths)
        return epoch or self._resumable.done[-1]

    def send(self, path: Path) -> None:
        """A file of the trial's folder to the object store, where there is one."""
        if self.remote:
            send_file(self.remote, self.paths, path)

    def close(self) -> None:
        self._watchdog.stop()
        if self._leave_asked:
            self._leave_asked.close()
        if self._epochs:
            self._epochs.close()
        self._lock.release()


def step(trial: RunningTrial) -> dict[str, Any]:
    """An epoch's outcome as plain values: `row` and `complete`, or `failed` with the reason. A machine that gave way
    (`machinery`) and a driver that wants the worker back (`left`) are no verdict on the trial: it goes on elsewhere or
    at the next start."""
    if trial.overdue:
        return {"failed": f"over limits.trial_minutes; where it was: {trial.paths.error}", "overdue": True}
    if trial.cannot_begin:
        return {"failed": trial.cannot_begin}
    try:
        epoch = trial.next_epoch()
    except LeftEpoch:
        return {"left": True}
    except Exception as error:
        return failure(error, trial.paths, trial.remote)
    return {"row": epoch.as_row(), "complete": epoch.epoch >= trial.epochs_asked}


def failure(error: Exception, paths: TrialPaths, remote: ObjectStore | None = None) -> dict[str, Any]:
    """The outcome of a `step`, or of a beginning, that raised; the trace of what nobody foresaw is kept."""
    if isinstance(error, MachineryError):
        return {"machinery": str(error), "machine": platform.node()}
    if isinstance(error, OSError):
        return {"machinery": f"the disk or the system gave way: {error}", "machine": platform.node()}
    if isinstance(error, TrainingFailed):
        return {"failed": str(error)}
    if out_of_memory(error):
        return {"failed": f"out of memory: {first_line(error)}", "infeasible": True}
    write_atomic(paths.error, redact("".join(traceback.format_exception(error))))
    if remote:
        send_file(remote, paths, paths.error)
    return {"failed": redact(f"{type(error).__name__}: {first_line(error)}")}
