"""sha256 of files, by how they look: read once, and again when size, time or inode change.

What is known is kept in a file between processes. A flip that changes none of the three is not seen by it: `forget`
has a file read again."""

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from toconv.errors import DamagedFile
from toconv.paths import sha256, write_atomic
from toconv.state_files import read_json

SETTLED_SECONDS = 2.0  # for which a file must not have been written to be known later: clocks of disks are that coarse
MOST_BYTES = 2**30  # of what is kept: five million files


class Seen(NamedTuple):
    size: int
    modified_ns: int
    inode: int
    sha256: str


KEPT = TypeAdapter(dict[str, Seen])  # by path, of what lies below the folder of the file from there
_seen: dict[str, Seen] = {}  # by path
_held: dict[Path, dict[str, None]] = {}  # by file that was read: the paths that it held, and those of `hold`


def known_sha256(path: Path) -> str:
    """Raises OSError where the file cannot be read."""
    found = path.stat()
    look = found.st_size, found.st_mtime_ns, found.st_ino
    known = _seen.get(str(path))
    if known is None or known[:3] != look:
        known = _seen[str(path)] = Seen(*look, sha256(path))
    return known.sha256


def note(path: Path, digest: str) -> None:
    """What was just written there."""
    found = path.stat()
    _seen[str(path)] = Seen(found.st_size, found.st_mtime_ns, found.st_ino, digest)


def forget(path: Path) -> None:
    _seen.pop(str(path), None)


def read_known(file: Path) -> None:
    """Add what an earlier process kept in `file`, once; nothing where that is damaged."""
    if file in _held:
        return
    held = _held[file] = {}
    with suppress(DamagedFile):
        for name, seen in read_json(file, KEPT, most_bytes=MOST_BYTES).items():
            held[path := os.path.join(file.parent, name)] = None
            _seen.setdefault(path, seen)


def keep_known(file: Path, paths: Iterable[Path]) -> None:
    """Write what is known of `paths` and of nothing else, where that can be done."""
    _write(file, _told(file, map(str, paths)))


def hold(file: Path, paths: Iterable[Path]) -> None:
    """Have `add_known` keep what is known of `paths` too, whatever it is given."""
    read_known(file)
    _held[file].update(dict.fromkeys(map(str, paths)))


def add_known(file: Path, paths: Iterable[Path]) -> None:
    """As `keep_known`, beside what `file` held when it was read: but for files whose folder is gone, and all of that
    where the whole would be over MOST_BYTES. Of processes that write at the same time the last one's is kept."""
    hold(file, asked := [*paths])
    there = cache(os.path.isdir)
    content = _told(file, (path for path in _held[file] if there(os.path.dirname(path))))
    _write(file, content if len(content) <= MOST_BYTES else _told(file, map(str, asked)))


def _told(file: Path, paths: Iterable[str]) -> str:
    """What is known of them, as JSON in their order."""
    settled, below = time.time_ns() - SETTLED_SECONDS * 1e9, f"{file.parent}{os.sep}"
    known = ((path, _seen.get(path)) for path in paths)
    return json.dumps({p.removeprefix(below): seen for p, seen in known if seen and seen.modified_ns < settled})


def _write(file: Path, content: str) -> None:
    with suppress(OSError):
        if not file.is_file() or file.read_text() != content:
            write_atomic(file, content)
