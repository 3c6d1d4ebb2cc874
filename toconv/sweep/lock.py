"""One driver at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from toconv.errors import RequestError
from toconv.paths import SweepPaths


def check_alone(paths: SweepPaths) -> None:
    """Raises RequestError while another process runs this sweep. Leaves nothing behind."""
    if paths.lock.exists():
        with only_driver(paths):
            pass


@contextmanager
def only_driver(paths: SweepPaths) -> Iterator[None]:
    """Keep a second driver out. Raises RequestError while the first one lives."""
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(
            f"{paths.root}: another process runs this sweep; wait for it, or choose another name="
        ) from None
    try:
        yield
    finally:
        lock.release()
