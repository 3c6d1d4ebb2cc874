"""One process at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from toconv.errors import MachineryError, RequestError


@contextmanager
def alone(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file, whose folder is made. Raises RequestError with `busy` while another process holds it,
    MachineryError where it cannot be locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(busy) from None
    except OSError as error:
        raise MachineryError(f"{path}: cannot be locked ({error.strerror}); remove what lies there") from error
    try:
        yield
    finally:
        lock.release()
