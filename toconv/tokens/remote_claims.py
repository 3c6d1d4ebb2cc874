"""Which machine encodes a shard where machines share an object store and no disk.

Whoever wants a shard puts an object of its own among the claims, then lists them: alone, it has the shard, otherwise it
takes its own away. Two in one moment may both give way, and come back later; two never have one, since what was put is
in every later list. A claim lives by being put anew; that of a machine that is gone stays the same for too long."""

import hashlib
import platform
import secrets
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from toconv.errors import MachineryError
from toconv.object_store import AT_ONCE, ObjectStore
from toconv.tokens.manifest import key_of
from toconv.tokens.remote import fetch_shard
from toconv.tokens.shards import ENTRY

LEASE_SECONDS, RENEW_SECONDS = 40.0, 5.0
LOOK_SECONDS = 2.0


def _identity(folder: Path) -> str:
    """Of a folder on its machine."""
    found = folder.stat()
    told = f"{platform.node()} {folder.resolve()} {found.st_dev} {found.st_ino}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]


class RemoteClaims:
    """Of a store's shards: who looks for what is missing there looks after this was made."""

    def __init__(self, remote: ObjectStore, folder: Path) -> None:
        self._remote, self._claims, self._tokens = remote, f"claims/{folder.name}", key_of(folder, "").rstrip("/")
        self._before = self._entries()
        self._since = dict[tuple[str, int], float]()  # each claim, and when it was first seen as it is
        self._looked = float("-inf")

    def _entries(self) -> dict[str, int]:
        """{shard: when its entry was put}."""
        found = self._remote.listed(self._tokens).items()
        return {name.removesuffix(ENTRY): stamp for name, stamp in found if name.endswith(ENTRY)}

    def bring(self, folder: Path, names: Collection[str]) -> None:
        """Into the folder, of these shards what was put there meanwhile. Call it as often as you like."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        new = [name for name, stamp in self._entries().items() if name in names and stamp != self._before.get(name)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(partial(fetch_shard, self._remote, folder), new))

    @contextmanager
    def claimed(self, folder: Path, name: str) -> Iterator[bool]:
        """Whether the shard, whose lock in the folder this process holds, is now its alone to encode."""
        here = _identity(folder)
        if self._claiming(name, here):
            yield False
            return
        ours = f"{name}/{here}-{secrets.token_hex(4)}"
        with self._kept(f"{self._claims}/{ours}"):
            alone = self._claiming(name, here, ours) == {ours}
            yield alone and self._remote.stamp(f"{self._tokens}/{name}{ENTRY}") == self._before.get(name)

    def _claiming(self, name: str, here: str, ours: str | None = None) -> set[str]:
        """The living claims of a shard; those of the dead are removed: what stays as it is, and what processes that
        held the lock before have left."""
        now, found = time.monotonic(), self._remote.listed(self._claims, deep=True).items()
        self._since = {claim: self._since.get(claim, now) for claim in found}
        of_shard = {path for path, _ in found if path.startswith(f"{name}/")}
        dead = {path for (path, _), since in self._since.items() if now - since > LEASE_SECONDS}
        dead |= {path for path in of_shard if path.startswith(f"{name}/{here}-") and path != ours}
        for path in dead:
            self._remote.remove(f"{self._claims}/{path}")
        return of_shard - dead

    @contextmanager
    def _kept(self, key: str) -> Iterator[None]:
        """An object that lives for the length of the block."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEW_SECONDS):
                with suppress(MachineryError):  # whoever holds the claim meets it too
                    self._remote.put(key, b"")

        self._remote.put(key, b"")
        thread = threading.Thread(target=renew, daemon=True, name="claim")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._remote.remove(key)
