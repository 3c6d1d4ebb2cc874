"""Trials in an object store: one goes on from there on a machine that has not its folder, and what it leaves comes from
there to a driver that does not see it.

A trial_id says all that decides a trial, so that it alone is the key, whatever sweep it is of."""

from collections.abc import Collection
from pathlib import Path

from toconv.errors import disk
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths, write_atomic


def fetch_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """Its files, where the folder has no checkpoint, or fewer epochs than are there."""
    metrics = remote.get(_key(paths, paths.metrics))
    here = paths.metrics.read_bytes() if paths.metrics.is_file() else b""
    if metrics is None or (paths.checkpoints() and _epochs(metrics) <= _epochs(here)):
        return
    there = remote.listed(f"trials/{paths.folder.name}")
    for path in _files(paths, there):
        if path != paths.metrics and (content := remote.get(_key(paths, path))) is not None:
            _write(path, content)
    _write(paths.metrics, metrics)


def collect_trial(remote: ObjectStore, paths: TrialPaths, epochs: int, failed: bool) -> None:
    """For a driver that was told of so many epochs: have its files here, if they are on another machine's disk."""
    here = paths.metrics.read_bytes() if paths.metrics.is_file() else b""
    if _epochs(here) < epochs:
        fetch_trial(remote, paths)
    if failed and not paths.error.exists() and (trace := remote.get(_key(paths, paths.error))) is not None:
        _write(paths.error, trace)


def send_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """After an epoch: what is new, checkpoints first, the metrics last, which tell how far they are. Raises
    MachineryError where they cannot be put."""
    latest = paths.latest.stat()
    of_now = [path for path in (paths.best, *paths.by_epoch().values()) if path.exists() and _is(path, latest.st_ino)]
    told = [path for path in (paths.config, paths.machine) if path.exists()]
    for path in (*of_now, paths.latest, *told, paths.metrics):
        send_file(remote, paths, path)


def send_file(remote: ObjectStore, paths: TrialPaths, path: Path) -> None:
    remote.put(_key(paths, path), path.read_bytes())


def _is(path: Path, inode: int) -> bool:
    return path.stat().st_ino == inode


def _epochs(metrics: bytes) -> int:
    """A line each."""
    return metrics.count(b"\n")


def _files(paths: TrialPaths, names: Collection[str]) -> list[Path]:
    """Those of a training, among what lies there."""
    by_epoch = [name for name in names if name.startswith("checkpoint_epoch_")]
    fixed = (paths.best, paths.config, paths.machine, paths.metrics, paths.latest)
    return [*(path for path in fixed if path.name in names), *(paths.folder / Path(name).name for name in by_epoch)]


def _write(path: Path, content: bytes) -> None:
    with disk(f"{path}: not written"):
        write_atomic(path, content)


def _key(paths: TrialPaths, path: Path) -> str:
    return f"trials/{paths.folder.name}/{path.name}"
