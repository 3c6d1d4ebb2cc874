"""The folders of trials: which are finished, taking one over from another sweep, dropping checkpoints."""

from __future__ import annotations

import shutil

from toconv.paths import TrialPaths, link, write_atomic


def finish(paths: TrialPaths) -> None:
    """Mark a trial as finished: its results may be used by whoever asks for the same identity."""
    write_atomic(paths.finished, "every epoch is done; metrics.jsonl holds the results\n")


def finished(paths: TrialPaths) -> bool:
    return paths.finished.exists()


def copy_trial(source: TrialPaths, target: TrialPaths) -> None:
    """Take over a finished trial: metrics and settings as copies, checkpoints (where they still are) as links."""
    target.folder.mkdir(parents=True, exist_ok=True)
    for checkpoint in source.folder.glob("*.pt"):
        link(checkpoint, target.folder / checkpoint.name)
    for path in (source.metrics, source.config):
        shutil.copyfile(path, target.folder / path.name)
    finish(target)


def drop_checkpoints(paths: TrialPaths) -> bool:
    """Remove the checkpoints of a trial; returns whether there were any."""
    found = list(paths.folder.glob("*.pt"))
    for checkpoint in found:
        checkpoint.unlink()
    return bool(found)
