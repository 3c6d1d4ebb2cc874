"""Checkpoints of trials in an object store: a trial goes on from there on a machine that has not its folder.

A trial_id says all that decides a trial, so that it alone is the key, whatever sweep it is of."""

from toconv.errors import disk
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths, write_atomic


def fetch_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """Its checkpoints, into a folder that has none."""
    for path in (paths.best, paths.latest) if not paths.checkpoints() else ():
        content = remote.get(_key(paths, path.name))
        if content is not None:
            with disk(f"{path}: not written"):
                write_atomic(path, content)


def send_trial(remote: ObjectStore, paths: TrialPaths) -> None:
    """After an epoch; the latest checkpoint, which another machine goes on from, comes last. Raises MachineryError
    where they cannot be put."""
    if paths.best.exists() and paths.latest.exists() and paths.best.samefile(paths.latest):
        remote.put(_key(paths, paths.best.name), paths.best.read_bytes())
    for path in (paths.config, paths.metrics, paths.latest):
        remote.put(_key(paths, path.name), path.read_bytes())


def _key(paths: TrialPaths, name: str) -> str:
    return f"trials/{paths.folder.name}/{name}"
