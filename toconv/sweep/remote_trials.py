"""Trials in an object store: one goes on from there on a machine that has not its folder, and what it leaves comes from
there to a driver that does not see it.

A trial_id says all that decides a trial, so that it alone is the key, whatever sweep it is of."""

import threading
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from toconv.errors import MachineryError, disk
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths, write_atomic

LOOK_SECONDS = 3.0


def fetch_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """Its files, where the folder has no checkpoint, or is not as far as what is there."""
    metrics, there = remote.get(_key(paths, paths.metrics)) or b"", remote.listed(f"trials/{paths.folder.name}")
    further = _epochs(metrics) - _epochs(_metrics_here(paths))
    left = paths.interrupted.name in there and not paths.interrupted.exists() and further == 0
    if paths.checkpoints() and further <= 0 and not left:
        return
    for path in _files(paths, there):
        if (content := remote.get(_key(paths, path))) is not None:
            _write(path, content)
    if metrics:
        _write(paths.metrics, metrics)


def _metrics_here(paths: TrialPaths) -> bytes:
    return paths.metrics.read_bytes() if paths.metrics.is_file() else b""


def collect_trial(remote: ObjectStore, paths: TrialPaths, epochs: int, failed: bool) -> None:
    """For a driver that was told of so many epochs: have its files here, if they are on another machine's disk."""
    if _epochs(_metrics_here(paths)) < epochs:
        fetch_trial(remote, paths)
    if failed and not paths.error.exists() and (trace := remote.get(_key(paths, paths.error))) is not None:
        _write(paths.error, trace)


def send_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """After an epoch: what is new, checkpoints first, then the metrics, which tell how far they are; then what the
    training has superseded goes there too. Raises MachineryError where they cannot be put."""
    latest = paths.latest.stat()
    of_now = [path for path in (paths.best, *paths.by_epoch().values()) if path.exists() and _is(path, latest.st_ino)]
    told = [path for path in (paths.config, paths.machine) if path.exists()]
    for path in (*of_now, paths.latest, *told, paths.metrics):
        send_file(remote, paths, path)
    by_epoch = paths.by_epoch()
    if not {*of_now}.isdisjoint(by_epoch.values()):
        there = remote.listed(f"trials/{paths.folder.name}")
        passed = [paths.interrupted, *(path for n, path in paths.by_epoch(there).items() if n <= max(by_epoch))]
        for path in passed:
            if path.name in there and not path.exists():
                remote.remove(_key(paths, path))


def drop_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """Whose checkpoints go here, goes there: what else it left is here. Where another sweep's training of it was put
    there since, that stays. Raises MachineryError."""
    if remote.get(_key(paths, paths.metrics)) in {None, _metrics_here(paths)}:
        remote.remove_folder(f"trials/{paths.folder.name}")


class LeaveAsked:
    """Whether the driver wants a training to leave, looked for in the object store beside the training."""

    def __init__(self, remote: ObjectStore, paths: TrialPaths) -> None:
        self._remote, self._key = remote, _key(paths, paths.leave)
        self._asked, self._ended = threading.Event(), threading.Event()
        remote.remove(self._key)  # meant for an earlier worker
        threading.Thread(target=self._look, daemon=True, name="leave").start()

    def _look(self) -> None:
        while not (self._ended.wait(LOOK_SECONDS) or self._asked.is_set()):
            with suppress(MachineryError):  # whoever sends the epoch meets it too
                if self._remote.stamp(self._key) is not None:
                    self._asked.set()

    def __call__(self) -> bool:
        return self._asked.is_set()

    def close(self) -> None:
        self._ended.set()


def ask_to_leave(remote: ObjectStore, paths: TrialPaths) -> None:
    remote.put(_key(paths, paths.leave), b"")


def node_of(remote: ObjectStore, paths: TrialPaths) -> bytes | None:
    """What the worker that has the trial wrote of itself."""
    return remote.get(_key(paths, paths.worker))


def send_file(remote: ObjectStore, paths: TrialPaths, path: Path) -> None:
    remote.put(_key(paths, path), path.read_bytes())


def _is(path: Path, inode: int) -> bool:
    return path.stat().st_ino == inode


def _epochs(metrics: bytes) -> int:
    """A line each."""
    return metrics.count(b"\n")


def _files(paths: TrialPaths, names: Collection[str]) -> list[Path]:
    """Those of a training, among what lies there."""
    fixed = (paths.best, paths.config, paths.machine, paths.interrupted, paths.latest)
    return [*(path for path in fixed if path.name in names), *paths.by_epoch(names).values()]


def _write(path: Path, content: bytes) -> None:
    with disk(f"{path}: not written"):
        write_atomic(path, content)


def _key(paths: TrialPaths, path: Path) -> str:
    return f"trials/{paths.folder.name}/{path.name}"
