"""Shards of a shared token store, on a disk or in an object store, on a machine's own disk: of bounded size, the least
recently used go, safe between processes.

A split is copied whole, and goes whole. What a process reads it holds a lease of, a lock that ends with the process."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from toconv.errors import MachineryError, StoreError, disk
from toconv.known_files import keep_known, known_sha256, note, read_known
from toconv.object_store import AT_ONCE, ObjectStore
from toconv.paths import free_bytes, unwritable, write_atomic
from toconv.progress import phase, size
from toconv.settings import StoreSettings
from toconv.tokens.archive import CACHE, cache_folder
from toconv.tokens.manifest import Content, key_of

KNOWN = "known-files.json"  # of the copies of a split
USED = ".used"  # its time is that of the last use
LEASE = ".lease"
GIGABYTE = 1e9


class Copies(NamedTuple):
    folder: Path
    lease: FileLock  # they stay while this is held


def unusable(settings: StoreSettings) -> str | None:
    """Why this machine's folder of copies cannot be used, where copies are asked for."""
    folder, most = _folder(), settings.local_cache_gb
    if not most:
        return None
    if not folder.is_absolute():
        why = "must be absolute, since workers have working directories of their own"
    elif reason := unwritable(folder):
        why = f"cannot be written ({reason})"
    else:
        return None
    return f"store.local_cache_gb={most:g}: {folder} {why}; {CACHE} names another folder"


def _folder() -> Path:
    """Below the folder of all that toconv fetches."""
    return cache_folder() / "token-copies"


class LocalCache:
    def __init__(self, folder: Path, most_bytes: float, remote: ObjectStore | None = None) -> None:
        """A file that does not lie where it is named comes from `remote`."""
        self.folder, self._most, self._remote = folder, most_bytes, remote

    @classmethod
    def asked(cls, settings: StoreSettings) -> "LocalCache | None":
        most = settings.local_cache_gb
        return cls(_folder(), most * GIGABYTE, ObjectStore.asked(settings)) if most else None

    def copies(self, files: Mapping[Path, Content]) -> Copies | str:
        """Of files that are read together; those that are not there yet are copied, by one process of this machine at a
        time. Why there is no room, where there is none. Raises StoreError where a file is not what was written,
        MachineryError where the cache cannot be written, or has no room for what does not lie where it is named."""
        told = "".join(f"{path.name} {content.sha256}\n" for path, content in files.items())
        unit = self.folder / hashlib.sha256(told.encode()).hexdigest()[:16]
        with disk(f"{unit}: tokens not copied"), phase(f"copying tokens to {self.folder}, one process at a time"):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                return self._filled(unit, files)

    def _filled(self, unit: Path, files: Mapping[Path, Content]) -> Copies | str:
        unit.mkdir(exist_ok=True)
        for left_over in (*_free_leases(unit), *unit.glob(".*.tmp")):
            left_over.unlink()
        lease = FileLock(unit / f"{os.getpid()}-{secrets.token_hex(4)}{LEASE}", thread_local=False)
        lease.acquire(timeout=0)
        read_known(unit / KNOWN)
        lacking = {path: content for path, content in files.items() if not _is_whole(unit / path.name, content)}
        if why := self._no_room(unit, files, lacking):
            lease.release()
            if not any(path.suffix != LEASE for path in unit.iterdir()):
                shutil.rmtree(unit, ignore_errors=True)
            if not all(path.is_file() for path in lacking):
                raise MachineryError(f"{next(iter(files)).parent}: its tokens are elsewhere, and not copied: {why}")
            return why
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda path: self._copy(path, unit / path.name, files[path].sha256), lacking))
        keep_known(unit / KNOWN, [unit / path.name for path in files])
        (unit / USED).touch()
        return Copies(unit, lease)

    def _copy(self, source: Path, target: Path, digest: str) -> None:
        content = source.read_bytes() if source.is_file() or not self._remote else None
        if content is None and self._remote:
            content = self._remote.get(key_of(source.parent, digest))
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise StoreError(f"{source}: not what was written; run the same command again to encode it anew")
        write_atomic(target, content)
        note(target, digest)

    def _no_room(self, unit: Path, files: Mapping[Path, Content], lacking: Mapping[Path, Content]) -> str | None:
        """Makes room, and says why there is none."""
        needed = sum(content.size for content in files.values())
        bound = f"store.local_cache_gb={self._most / GIGABYTE:g}"
        if needed > self._most:
            return f"this split takes {size(needed)}, {bound}"
        others = sorted((path for path in self.folder.iterdir() if path.is_dir() and path != unit), key=_last_use)
        held = {path: sum(map(_size, path.iterdir())) for path in others}
        for path in others:
            if sum(held.values()) + needed > self._most and not _is_in_use(path):
                shutil.rmtree(path)
                del held[path]
        if sum(held.values()) + needed > self._most:
            return f"it takes {size(needed)}, and others in use {size(sum(held.values()))}; {bound}"
        new, free = sum(content.size for content in lacking.values()), free_bytes(unit)
        return f"{size(new)} to copy, {size(free)} are free in {unit}" if new > free else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _last_use(unit: Path) -> float:
    used = unit / USED
    return used.stat().st_mtime if used.exists() else 0.0


def _is_in_use(unit: Path) -> bool:
    return len([*unit.glob(f"*{LEASE}")]) > len(_free_leases(unit))


def _free_leases(unit: Path) -> list[Path]:
    """Of processes that are gone."""
    found = []
    for path in unit.glob(f"*{LEASE}"):
        with suppress(Timeout), FileLock(path, timeout=0):
            found.append(path)
    return found


def _is_whole(copy: Path, content: Content) -> bool:
    """By `known_files`: its bytes are read where its size, time or inode changed."""
    return copy.is_file() and _size(copy) == content.size and known_sha256(copy) == content.sha256
