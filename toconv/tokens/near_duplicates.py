"""Which pictures must share a split: near-duplicates by a perceptual hash, and neighbours in a numbered series."""

# I pictures

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from toconv.code_version import code_version
from toconv.errors import DataError
from toconv.paths import write_atomic
from toconv.progress import bar
from toconv.settings import DataSettings
from toconv.tokens.decoding import thumbnail
from toconv.tokens.readable import kept

SIDE, LOW = 32, 8  # of the grey picture, and of the frequencies of it that are looked at
# bits of 64 in which two pictures differ at most: of the 2,926 pairs of the default photographs, which are of different
# things, none differs in fewer than 18; one of them at half size and JPEG quality 30, brighter by 1.4, with contrast
# 0.6 or grey differs from itself in 10 at most, cropped by 2.5 % on each side in 10 or fewer 97 times of 100
NEAR, NEAR_IN_SERIES = 10, 16
MOST = 20_000  # pictures; of more, only those of the same bytes are known
NUMBERED = re.compile(r"(.*?)(\d+)([^\d/]*)")
CODE = ("tokens/near_duplicates.py", "tokens/picture_decoder.py")
Hashes = dict[str, int | None]  # {a sha256: the hash, None where it cannot be read}
_found: dict[int, Hashes] = {}  # by data.max_pixels


def near_duplicates(keys: Sequence[str], digests: Sequence[str], hashes: Hashes) -> list[list[int]]:
    """The places of pictures with these keys and sha256, those that must share a split in one list: of the same bytes,
    with hashes at most NEAR apart, or next to one another in a series with hashes at most NEAR_IN_SERIES apart, and
    whatever these chain."""
    hash_I = [hashes.get(digest) for digest in digests]
    bits_I = np.array([number or 0 for number in hash_I], np.uint64)
    hashed_I, left_I = np.array([number is not None for number in hash_I], bool), np.ones(len(keys), bool)
    links, found = _links(keys, digests, hash_I), []
    for first in range(len(keys)):
        if not left_I[first]:
            continue
        group, waiting, left_I[first] = [], [first], False
        while waiting:
            here = waiting.pop()
            group.append(here)
            near = [place for place in links[here] if left_I[place]]
            if hashed_I[here]:
                is_near_I = np.bitwise_count(bits_I ^ bits_I[here]) <= NEAR
                near += np.flatnonzero(left_I & hashed_I & is_near_I).tolist()
            waiting += set(near)
            left_I[near] = False
        found.append(sorted(group))
    return found


def _links(keys: Sequence[str], digests: Sequence[str], hash_I: Sequence[int | None]) -> dict[int, list[int]]:
    """For each place those of the same bytes, and of the neighbours in its series, next to it."""
    of_bytes, of_series = defaultdict(list), defaultdict(list)
    for place, (key, digest) in enumerate(zip(keys, digests, strict=True)):
        of_bytes[digest].append(place)
        if match := NUMBERED.fullmatch(str(PurePosixPath(key).with_suffix(""))):
            of_series[match[1], match[3]].append((int(match[2]), place))
    linked = [pair for places in of_bytes.values() for pair in pairwise(places)]
    for numbered in of_series.values():
        linked += [
            (a, b) for (_, a), (_, b) in pairwise(sorted(numbered)) if _apart(hash_I[a], hash_I[b]) <= NEAR_IN_SERIES
        ]
    links = defaultdict(list)
    for a, b in linked:
        links[a].append(b)
        links[b].append(a)
    return links


def _apart(a: int | None, b: int | None) -> int:
    """In how many bits two hashes differ; in all where one is not known."""
    return 64 if a is None or b is None else (a ^ b).bit_count()


def perceptual_hashes(digests: Mapping[Path, str], data: DataSettings) -> Hashes:
    """Of {path: sha256}; each picture is decoded once, as long as `keep_hashes` is called."""
    known = _known(data)
    fresh = {digest: path for path, digest in digests.items() if digest not in known}
    with bar("pictures") as progress, ThreadPoolExecutor(data.workers) as pool:
        task = progress.add_task("comparing", total=len(fresh))
        found = pool.map(partial(_hash, max_pixels=data.max_pixels), fresh.values())
        for digest, number in zip(fresh, found, strict=True):
            known[digest] = number
            progress.advance(task)
    return known


def known_hashes(digests: Mapping[Path, str], data: DataSettings) -> tuple[Hashes, set[str]]:
    """What is known of {path: sha256} without a look at any, and of which nothing is."""
    known = _known(data)
    return known, {*digests.values()} - known.keys()


def keep_hashes(data: DataSettings) -> None:
    """Write what was found, where that can be done, beside what other processes have kept since, so that no later
    process decodes a picture to know."""
    there = kept(_file(data))
    with suppress(OSError):
        if (known := {**there, **_known(data)}) != there:
            write_atomic(_file(data), json.dumps(known))


def _hash(path: Path, max_pixels: int) -> int | None:
    try:
        return perceptual_hash(thumbnail(path, max_pixels, SIDE))
    except DataError:
        return None


def perceptual_hash(grey: bytes | bytearray) -> int:
    """pHash (phash.org) of SIDE×SIDE grey values: which of its LOW×LOW lowest frequencies (DCT-II) are above their
    median. Rounded, so that a picture of one colour has the same on every machine."""
    grey_SS = np.frombuffer(grey, np.uint8).reshape(SIDE, SIDE).astype(float)
    cosines_LS = np.cos(np.pi / SIDE * np.outer(np.arange(LOW), np.arange(SIDE) + 0.5))
    low_LL = (cosines_LS @ grey_SS @ cosines_LS.T).round(3)
    return int.from_bytes(np.packbits(low_LL > np.median(low_LL)).tobytes())


def _known(data: DataSettings) -> Hashes:
    if data.max_pixels not in _found:
        _found[data.max_pixels] = kept(_file(data))
    return _found[data.max_pixels]


def _file(data: DataSettings) -> Path:
    return data.tokens_dir / f"hashes-{data.max_pixels}-{code_version(CODE)}.json"
