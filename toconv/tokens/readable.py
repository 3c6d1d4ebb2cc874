"""Which pictures cannot be read, and why. Each is decoded once; what was found is kept beside the token stores."""

import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from toconv.code_version import code_version
from toconv.errors import DataError
from toconv.paths import write_atomic
from toconv.progress import bar
from toconv.settings import DataSettings
from toconv.tokens.decoding import decode

CODE = ("tokens/picture_decoder.py",)  # decides it
Reasons = dict[str, str | None]  # {sha256: why it cannot be read, None where it can}
_found: dict[int, Reasons] = {}  # by data.max_pixels
_most: ContextVar[int | None] = ContextVar("most", default=None)


@contextmanager
def decoding_at_most(pictures: int) -> Iterator[None]:
    """Within, where pictures are listed, more than so many that no start has decoded yet are left to the start."""
    before = _most.set(pictures)
    try:
        yield
    finally:
        _most.reset(before)


def too_many(fresh: Collection[object]) -> bool:
    """Whether that many pictures are not to be decoded now."""
    most = _most.get()
    return most is not None and len(fresh) > most


def not_known(digests: Mapping[Path, str], data: DataSettings) -> set[str]:
    """Those of which `unreadable` has yet to know."""
    return {*digests.values()} - _known(data).keys()


def unreadable(digests: Mapping[Path, str], data: DataSettings) -> dict[Path, str]:
    """{path: why} of the pictures that cannot be read, of {path: sha256}."""
    known = _known(data)
    fresh = {digest: path for path, digest in digests.items() if digest not in known}
    with bar("pictures") as progress, ThreadPoolExecutor(data.workers) as pool:
        task = progress.add_task("reading", total=len(fresh))
        for digest, why in zip(fresh, pool.map(lambda path: _why(path, data.max_pixels), fresh.values()), strict=True):
            known[digest] = why
            progress.advance(task)
    return {path: why for path, digest in digests.items() if (why := known[digest]) is not None}


def keep_reasons(data: DataSettings) -> None:
    """Write what was found, beside what other processes have kept since, so that no later process decodes a picture to
    know."""
    write_atomic(_file(data), json.dumps({**kept(_file(data)), **_known(data)}))


def _why(path: Path, max_pixels: int) -> str | None:
    try:
        decode(path, max_pixels)
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _known(data: DataSettings) -> Reasons:
    if data.max_pixels not in _found:
        _found[data.max_pixels] = kept(_file(data))
    return _found[data.max_pixels]


def kept(file: Path) -> dict[str, Any]:
    """What an earlier process wrote of pictures, by the sha256 of their bytes; nothing where that is damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file(data: DataSettings) -> Path:
    return data.tokens_dir / f"readable-{data.max_pixels}-{code_version(CODE)}.json"
