"""Which files toconv made, so that none of others is written over.

Those of `toconv compress` carry a mark, the folder of a sweep or a training has its settings in it, an export its
config.json."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from toconv.errors import RequestError
from toconv.paths import SweepPaths

MARK_KEY, MARK = "Software", "toconv compress"  # in the metadata of what it writes
PNG_START, LOOKED_AT = b"\x89PNG\r\n\x1a\n", 2**16  # bytes of a file in which its mark lies
LONGEST_NAME = 255  # bytes, on every file system that is in use

Inode = tuple[int, int]  # device and inode: the same file under whatever name


def inode(path: Path) -> Inode | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_marked(path: Path) -> bool:
    """Whether `toconv compress` made this file."""
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT) if path.is_file() else b""
    except OSError:
        return False
    if start.startswith(PNG_START):
        return f"tEXt{MARK_KEY}\0{MARK}".encode() in start
    return json.dumps({MARK_KEY: MARK}, separators=(",", ":")).encode() in start[8:]


def output_mistakes(targets: Iterable[Path], output: Path, inputs: Mapping[Inode, Path]) -> list[str]:
    """Why files below `output` are not to be written: they are inputs, were not made by toconv, or lie outside."""
    around = next(path for path in (output.absolute(), *output.absolute().parents) if os.path.lexists(path))
    if not around.is_dir():
        return [f"--output {output}: {around} is a file; name a folder"]
    mistakes = (_target_mistake(target, output.resolve(), inputs) for target in targets)
    return [mistake for mistake in mistakes if mistake]


def _target_mistake(target: Path, output: Path, inputs: Mapping[Inode, Path]) -> str | None:
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        return f"{target}: not written: the name is longer than {LONGEST_NAME} bytes"
    if not target.parent.resolve().is_relative_to(output):
        return f"{target}: not written: a link leads out of the output folder, to {target.parent.resolve()}"
    around = next(path for path in target.absolute().parents if os.path.lexists(path))
    if not around.is_dir():
        return f"{target}: not written: {around} is a file"
    if not os.path.lexists(target):
        return None
    given = inputs.get(found) if (found := inode(target)) else None
    if given is not None:
        return f"{target}: not written: it is {given}, which was given as a picture; name another --output"
    if not target.is_symlink() and is_marked(target):
        return None
    return f"{target}: not written: it is there, and toconv compress did not make it; name another --output"


def check_sweep_folder(paths: SweepPaths) -> None:
    """Raises RequestError where what a sweep would write is there, and no sweep.yaml by which it is a sweep's."""
    written = (paths.study, paths.results, paths.report, paths.spent, paths.figures, paths.recommended)
    there = [path.name for path in (*written, paths.root / "trials") if path.exists()]
    if there and not paths.request.exists():
        raise RequestError(
            f"{paths.root}: holds {', '.join(there)} and no {paths.request.name}, so it is no sweep's folder; choose "
            "another name="
        )
