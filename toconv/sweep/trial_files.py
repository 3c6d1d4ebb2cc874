"""Files of trials that are taken over from another sweep, and those that go once nobody needs them."""

import shutil
from contextlib import suppress
from pathlib import Path

from toconv.paths import SweepPaths, TrialPaths, link
from toconv.sweep.seal import finish, intact


def copy_trial(source: TrialPaths, target: TrialPaths) -> None:
    """Take over a finished trial: metrics and settings as copies, checkpoints (where they still are) as links. Raises
    FileNotFoundError where it is removed meanwhile."""
    target.folder.mkdir(parents=True, exist_ok=True)
    for checkpoint in source.checkpoints():
        with suppress(FileNotFoundError):  # the driver of its sweep has dropped it by now
            link(checkpoint, target.folder / checkpoint.name)
    for path in (source.metrics, *filter(Path.is_file, (source.config, source.evaluation))):
        shutil.copyfile(path, target.folder / path.name)
    finish(target)


def take_over(paths: SweepPaths, trial_id: str) -> bool:
    """Whether the results of a trial are in its folder: as it was finished there, or in another sweep beside this
    one."""
    own = paths.trial(trial_id)
    if not intact(own):
        own.finished.unlink(missing_ok=True)
        others = (TrialPaths(path) for path in paths.root.parent.glob(f"*/trials/{trial_id}"))
        found = next(filter(intact, others), None)
        if found is None:
            return False
        try:
            copy_trial(found, own)
        except FileNotFoundError:
            return False
    return True


def drop_checkpoints(paths: TrialPaths) -> None:
    for checkpoint in paths.checkpoints():
        checkpoint.unlink()
