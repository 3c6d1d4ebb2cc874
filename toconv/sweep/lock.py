"""One driver at a time."""

from contextlib import AbstractContextManager

from toconv.lock import alone
from toconv.paths import SweepPaths


def only_driver(paths: SweepPaths) -> AbstractContextManager[None]:
    """Keep a second driver out. Raises RequestError while the first one lives."""
    return alone(paths.lock, f"{paths.root}: another process runs this sweep; wait for it, or choose another name=")


def check_alone(paths: SweepPaths) -> None:
    """Raises RequestError while another process runs this sweep. Leaves nothing behind."""
    if paths.lock.exists():
        with only_driver(paths):
            pass
