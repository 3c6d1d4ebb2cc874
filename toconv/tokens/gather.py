"""Files, folders and globs of a command line → pictures, each with the name that its outputs get."""

import glob
import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from toconv.errors import RequestError
from toconv.own_files import is_marked
from toconv.tokens.images import Picture, named
from toconv.tokens.listing import (
    BROKEN,
    FORMAT,
    LOOP,
    NOT_READ,
    SPECIAL,
    SUFFIXES,
    TWICE,
    UNNAMED,
    begins_as_picture,
    pictures_below,
    say_left_out,
)


def gather(words: Iterable[str]) -> list[Picture]:
    """The pictures in the order of `words`, each once; a folder's are all below it. A key is the path of the picture's
    outputs: its own without suffix, below the folder that is common to all that was named. Raises RequestError that
    names whatever is not there, and pictures whose outputs would have one name."""
    found: dict[str, Path] = {}  # by absolute path, so that nothing is done twice
    roots, mistakes = [], []
    for word in words:
        pictures, root = _pictures(word)
        roots.append(os.path.abspath(root))
        maps = {path for path in pictures if is_marked(path)}
        say_left_out(root, {"a map that toconv compress drew": sorted(maps)} if maps else {})
        pictures = [path for path in pictures if path not in maps]
        for path in pictures:
            found.setdefault(os.path.abspath(path), path)
        if not pictures:
            mistakes.append(f"{word}: no picture there")
    if not roots:
        mistakes.append("name a picture, a folder or a quoted glob")
    if mistakes:
        raise RequestError(*mistakes)
    common = os.path.commonpath(roots)
    keyed = [Picture(named(Path(absolute).with_suffix(""), Path(common)), path) for absolute, path in found.items()]
    _refuse_collisions(keyed)
    return keyed


def _pictures(word: str) -> tuple[list[Path], Path]:
    """What a word names, and the folder that the names of outputs start below."""
    path = Path(word)
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        return [Path(file) for file in pictures_below(path)], path
    if "**" in path.parts:
        root = _fixed_part(path)
        pattern = path.parts[len(root.parts) :]
        found = map(Path, pictures_below(root))
        return [p for p in found if _matches(p.relative_to(root).parts, pattern)], root
    if glob.has_magic(word):
        return _matched([Path(match) for match in sorted(glob.glob(word))], _fixed_part(path)), _fixed_part(path)
    return [], path.parent


def _matched(matches: Sequence[Path], root: Path) -> list[Path]:
    """The pictures among a glob's matches, and below the folders among them, each real folder once."""
    found: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    around, seen = [place := Path(os.path.realpath(root)), *place.parents], set[str]()
    for path in sorted(matches, key=lambda path: path.is_symlink()):
        there = os.path.realpath(path)
        why = _why_left_out(path, Path(there) in around, there in seen)
        if why:
            left_out.setdefault(why, []).append(path)
        elif path.is_dir():
            seen.add(there)
            found += map(Path, pictures_below(path))
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
    say_left_out(root, left_out)
    return sorted(found)


def _why_left_out(path: Path, is_around: bool, is_seen: bool) -> str | None:
    if path.is_dir():
        return LOOP if is_around else TWICE if is_seen else None
    if path.suffix.lower() in NOT_READ:
        return FORMAT
    if path.suffix.lower() in SUFFIXES and not path.is_file():
        return SPECIAL if path.exists() else BROKEN
    if path.suffix.lower() not in SUFFIXES and path.is_file() and begins_as_picture(path):
        return UNNAMED
    return None


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path or a folder around it matches a glob's parts; `**` are any folders."""
    at = {0}  # how many parts of the pattern may lie behind
    for part in (*parts, ""):
        for i, of_pattern in enumerate(pattern):
            if of_pattern == "**" and i in at:
                at.add(i + 1)
        if len(pattern) in at:
            return True
        stay, step = {i for i in at if pattern[i] == "**"}, {i + 1 for i in at if fnmatchcase(part, pattern[i])}
        at = stay | step
    return False


def _fixed_part(pattern: Path) -> Path:
    """The folders before a glob's first part with a wildcard."""
    parts = pattern.parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _refuse_collisions(pictures: Iterable[Picture]) -> None:
    by_key: dict[str, list[Path]] = {}
    for picture in pictures:
        by_key.setdefault(picture.key, []).append(picture.path)
    twice = {key: " and ".join(map(str, paths)) for key, paths in by_key.items() if len(paths) > 1}
    if twice:
        raise RequestError(*(f"{paths}: the outputs of both would be called {key}" for key, paths in twice.items()))
