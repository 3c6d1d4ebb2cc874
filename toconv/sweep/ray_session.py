"""The private folder of a Ray cluster of our own: its session, its sockets and its token, which go with the cluster."""

import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

from toconv.paths import FOR_THE_OWNER, write_atomic
from toconv.sweep.preflight import SESSION_PREFIX
from toconv.sweep.ray_token import TOKENS

LOCK = "toconv.lock"  # held as long as the cluster lives
TRIES, PAUSE = 20, 0.1  # of removing a folder in which processes that end still write; seconds


class RaySession:
    """Ray makes its own folders for all to write in: they lie in one that only its owner can enter."""

    def __init__(self, folder: Path) -> None:
        _remove_left_over(folder)
        self.folder = Path(tempfile.mkdtemp(prefix=SESSION_PREFIX, dir=folder))
        self._lock = FileLock(self.folder / f"{LOCK}.new")
        self._lock.acquire(timeout=0)
        os.replace(self._lock.lock_file, self.folder / LOCK)  # a driver beside this one would take it before it is held
        self.temporary = self.folder / "s"  # short, for the paths of sockets
        self._shows_token = not any(os.environ.get(name) for name in TOKENS)
        if self._shows_token:
            token = self.folder / "token"
            write_atomic(token, secrets.token_hex(32), FOR_THE_OWNER)
            os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)

    def remove(self) -> None:
        if self._shows_token:
            os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
        for _ in range(TRIES):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                break
            time.sleep(PAUSE)
        self._lock.release()


def _remove_left_over(folder: Path) -> None:
    """Sessions whose driver was killed."""
    for left in folder.glob(f"{SESSION_PREFIX}*"):
        try:
            if left.is_symlink() or left.stat().st_uid != os.getuid() or not (left / LOCK).is_file():
                continue
            with FileLock(left / LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
        except (OSError, Timeout):
            continue
