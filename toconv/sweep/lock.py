"""One driver at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from toconv.errors import MachineryError, RequestError
from toconv.paths import SweepPaths


@contextmanager
def only_driver(paths: SweepPaths) -> Iterator[None]:
    """Keep a second driver out. Raises RequestError while the first one lives."""
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        raise MachineryError(f"{paths.lock}: cannot be locked ({error.strerror}); remove what lies there") from error
    except Timeout:
        raise RequestError(
            f"{paths.root}: another process runs this sweep; wait for it, or choose another name="
        ) from None
    try:
        yield
    finally:
        lock.release()
