"""sha256 of files, by how they look: read once, and again when size, time or inode change.

What is known is kept in a file between processes. A flip that changes none of the three is not seen by it: `forget`
has a file read again."""

import json
import os
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter

from toconv.errors import DamagedFile
from toconv.paths import sha256, write_atomic
from toconv.state_files import read_json

SETTLED_SECONDS = 2.0  # for which a file must not have been written to be known later: clocks of disks are that coarse
MOST_BYTES = 2**30  # of what is kept: five million files


LOOK = struct.Struct("<qqQ")  # of a file: size, when it was modified in ns, inode
SHA256_BYTES = 32
# how a file looked and its sha256 behind that; as one object each, of which there may be a million
Seen = Annotated[bytes, Field(min_length=LOOK.size + SHA256_BYTES, max_length=LOOK.size + SHA256_BYTES)]
KEPT = TypeAdapter(  # by path, of what lies below the folder of the file from there
    dict[str, Seen], config=ConfigDict(val_json_bytes="hex")
)
_seen: dict[str, bytes] = {}  # by path
_held: dict[Path, dict[str, bytes | None]] = {}  # by file that was read: what it has, and the paths of `hold`


def known_sha256(path: str | Path) -> str:
    """Raises OSError where the file cannot be read."""
    look, known = _look(path), _seen.get(str(path))
    if known is None or not known.startswith(look):
        known = _seen[str(path)] = look + bytes.fromhex(sha256(Path(path)))
    return known[LOOK.size :].hex()


def _look(path: str | Path) -> bytes:
    found = os.stat(path)
    return LOOK.pack(found.st_size, found.st_mtime_ns, found.st_ino)


def note(path: Path, digest: str) -> None:
    """What was just written there."""
    _seen[str(path)] = _look(path) + bytes.fromhex(digest)


def forget(path: Path) -> None:
    _seen.pop(str(path), None)


def read_known(file: Path) -> None:
    """Add what an earlier process kept in `file`, once; nothing where that is damaged."""
    if file not in _held:
        _held[file] = {}
        _take_in(file)


def _take_in(file: Path) -> None:
    held, below = _held[file], f"{file.parent}{os.sep}"
    with suppress(DamagedFile):
        for name, seen in read_json(file, KEPT, most_bytes=MOST_BYTES).items():
            held[path := name if name.startswith(os.sep) else below + name] = seen
            _seen.setdefault(path, seen)


def keep_known(file: Path, paths: Iterable[Path]) -> None:
    """Write what is known of `paths` and of nothing else, where that can be done."""
    _write(file, _as_json(file, _settled(map(str, paths))))


def hold(file: Path, paths: Iterable[str | Path]) -> None:
    """Have `add_known` keep what is known of `paths` too, whatever it is given."""
    read_known(file)
    held = _held[file]
    for path in paths:
        held.setdefault(str(path), None)


def add_known(file: Path, paths: Iterable[str | Path]) -> None:
    """As `keep_known`, beside what `file` holds, by other processes since it was read too: but for files whose folder
    is gone, and all of that where the whole would be over MOST_BYTES. Of processes that write in the same moment the
    last one's is kept, and nothing is written where `file` has it all."""
    hold(file, asked := [*paths])
    held = _held[file]
    if not _gone(held) and all(_seen.get(path) == kept for path, kept in held.items()):
        return
    _take_in(file)
    for path in _gone(held):
        del held[path]
    content = _as_json(file, found := _settled(held))
    _write(file, content if len(content) <= MOST_BYTES else _as_json(file, _settled(map(str, asked))))
    held.update(found)


def _gone(paths: Iterable[str]) -> list[str]:
    """Those whose folder is."""
    there = cache(os.path.isdir)
    return [path for path in paths if not there(path.rpartition(os.sep)[0] or os.sep)]


def _settled(paths: Iterable[str]) -> dict[str, bytes]:
    """What is known of them, in their order, but for those that were written just now."""
    before = time.time_ns() - SETTLED_SECONDS * 1e9
    known = ((path, _seen.get(path)) for path in paths)
    return {path: seen for path, seen in known if seen and LOOK.unpack_from(seen)[1] < before}


def _as_json(file: Path, known: Mapping[str, bytes]) -> str:
    below = f"{file.parent}{os.sep}"
    return json.dumps({path.removeprefix(below): seen.hex() for path, seen in known.items()})


def _write(file: Path, content: str) -> None:
    with suppress(OSError):
        if not file.is_file() or file.read_bytes() != content.encode():
            write_atomic(file, content)
