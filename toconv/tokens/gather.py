"""Files, folders and globs of a command line → pictures, each with the name that its outputs get."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from toconv.errors import RequestError
from toconv.tokens.images import SUFFIXES, Picture


def gather(words: Iterable[str]) -> list[Picture]:
    """The pictures in the order of `words`, each once; a folder's are all below it. A key is the path of the picture's
    outputs: its own without suffix, below the folder that is common to all that was named. Raises RequestError that
    names whatever is not there, and pictures whose outputs would have one name."""
    found: dict[str, Path] = {}  # by absolute path, so that nothing is done twice
    roots, mistakes = [], []
    for word in words:
        pictures, root = _pictures(word)
        roots.append(os.path.abspath(root))
        for path in pictures:
            found.setdefault(os.path.abspath(path), path)
        if not pictures:
            mistakes.append(f"{word}: no picture there")
    if not roots:
        mistakes.append("name a picture, a folder or a quoted glob")
    if mistakes:
        raise RequestError(*mistakes)
    common = os.path.commonpath(roots)
    below = {Path(os.path.relpath(absolute, common)): path for absolute, path in found.items()}
    keyed = [Picture(name.with_suffix("").as_posix(), path) for name, path in below.items()]
    _refuse_collisions(keyed)
    return keyed


def _pictures(word: str) -> tuple[list[Path], Path]:
    """What a word names, and the folder that the names of outputs start below."""
    path = Path(word)
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        return _below(path), path
    if glob.has_magic(word):
        matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]
        return [p for match in matches for p in _below(match)], _fixed_part(path)
    return [], path.parent


def _below(path: Path) -> list[Path]:
    candidates = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [p for p in candidates if p.suffix.lower() in SUFFIXES and p.is_file()]


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
