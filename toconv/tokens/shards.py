"""Shards of a token store: each claimed by one process and written by rename, with a sha256, and known to be whole
without reading them all.

A shard that is finished has its entry beside it. Once all are, the manifest holds the entries too."""

# I images of a shard, N tokens of an image, P prefix tokens beside them, C channels

import hashlib
import json
import random
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from pydantic import ValidationError

from toconv.errors import EncoderError, disk
from toconv.known_files import forget, keep_known, known_sha256, note, read_known
from toconv.paths import write_atomic
from toconv.settings import DataSettings
from toconv.tokens.images import Picture, Splits
from toconv.tokens.manifest import SHARD_CROPS, SPLITS, ShardEntry
from toconv.tokens.standardisation import SUMS
from toconv.tokens.stored import SCALES, VALUES, Stored, encoded_dtype

KNOWN = "known-files.json"  # of a store
ENTRY = ".entry"  # behind the name of a finished shard: the sha256 of the entry, and in the next line the entry


@dataclass(frozen=True)
class Shard:
    """A run of pictures of one split."""

    name: str
    split: str
    pictures: list[Picture]


def plan_shards(splits: Splits, data: DataSettings) -> list[Shard]:
    step = max(1, SHARD_CROPS // data.crops)
    return [
        Shard(f"{split}-{number:05d}", split, splits[split][start : start + step])
        for split in SPLITS
        for number, start in enumerate(range(0, len(splits[split]), step))
    ]


def intact(folder: Path, entry: dict[str, Any] | None) -> bool:
    """Whether the files of a shard are as the manifest has them, by `known_files`."""
    read_known(folder / KNOWN)
    files = {folder / name: digest for name, digest in entry["sha256"].items()} if entry else {}
    return bool(files) and all(path.is_file() and known_sha256(path) == digest for path, digest in files.items())


def shard_files(folder: Path, manifest: Mapping[str, Any]) -> dict[Path, str]:
    """{file: the sha256 that it must have}."""
    return {folder / name: digest for entry in manifest["shards"].values() for name, digest in entry["sha256"].items()}


def keep_shards(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write how they look, so that no later process reads all of a store to know that it is whole."""
    keep_known(folder / KNOWN, shard_files(folder, manifest))


def look_again_at_one(folder: Path, manifest: Mapping[str, Any]) -> None:
    """A shard of each start is read whatever it looks like."""
    read_known(folder / KNOWN)
    if manifest["shards"]:
        for name in random.choice(list(manifest["shards"].values()))["sha256"]:
            forget(folder / name)


def damaged_files(folder: Path, manifest: Mapping[str, Any], workers: int, tell: Callable[[], object]) -> list[Path]:
    """Those that are not there, or not what was written: all are read, whatever they look like. `tell` is called after
    each."""

    def digest(path: Path) -> str:
        forget(path)
        found = known_sha256(path) if path.is_file() else ""
        tell()
        return found

    files = shard_files(folder, manifest)
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(digest, files))
    keep_shards(folder, manifest)  # so that the next start finds what is damaged
    return [path for path, digest in zip(files, found, strict=True) if digest != files[path]]


def entries(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """{name: entry} of the shards that are finished; one that is damaged is none."""
    found = dict(manifest["shards"])
    for path in folder.glob(f"*{ENTRY}"):
        if entry := entry_in(path.read_bytes()):
            found[path.name.removesuffix(ENTRY)] = entry
    return found


def entry_in(written: bytes) -> dict[str, Any] | None:
    """None where they are damaged."""
    digest, _, content = written.partition(b"\n")
    with suppress(ValidationError):
        if digest.decode(errors="replace") == hashlib.sha256(content).hexdigest():
            return ShardEntry.model_validate_json(content).model_dump(exclude_unset=True)
    return None


class ElsewhereClaims(Protocol):
    """Of machines that do not see the folder."""

    def claimed(self, folder: Path, name: str) -> AbstractContextManager[bool]: ...

    def bring(self, folder: Path, names: Collection[str]) -> None:
        """What they finished."""


class Claims:
    """Which shards were finished since this was made, which is before anybody looks for missing ones. Each is encoded
    under its lock, by one process of those that look at the same time, and left alone once it has a new entry."""

    def __init__(self, folder: Path, shards: Sequence[Shard]) -> None:
        self.folder = folder
        self.elsewhere: ElsewhereClaims | None = None
        self.encoder = secrets.token_hex(8)  # whom all work for that are given this: stands in the entries they write
        self._before = {shard.name: self._stamp(shard) for shard in shards}

    def _stamp(self, shard: Shard) -> int | None:
        try:
            return (self.folder / f"{shard.name}{ENTRY}").stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def is_finished(self, shard: Shard) -> bool:
        return self._stamp(shard) != self._before[shard.name]

    def is_own(self, shard: Shard) -> bool:
        """Whether who finished it was given this, in whatever process and on whatever machine."""
        with suppress(OSError, ValueError):
            _, _, told = (self.folder / f"{shard.name}{ENTRY}").read_bytes().partition(b"\n")
            return bool(json.loads(told).get("encoder") == self.encoder)
        return False

    def look_elsewhere(self, shards: Sequence[Shard]) -> None:
        """Have here what machines that do not see the folder finished of these."""
        if self.elsewhere:
            self.elsewhere.bring(self.folder, {shard.name for shard in shards if not self.is_finished(shard)})

    def in_turn(self, shards: Sequence[Shard]) -> Sequence[Shard]:
        """Beginning anywhere, where machines that begin together would all ask for the same first."""
        first = random.randrange(len(shards)) if self.elsewhere and shards else 0
        return [*shards[first:], *shards[:first]]

    @contextmanager
    def claimed(self, shard: Shard) -> Iterator[bool]:
        """Whether the shard is now this process's alone to encode. The lock of a process that died is free."""
        lock = FileLock(self.folder / f"{shard.name}.lock", thread_local=False)  # whoever writes the shard lets it go
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            with self.elsewhere.claimed(self.folder, shard.name) if self.elsewhere else nullcontext(True) as free:
                yield free and not self.is_finished(shard)
        finally:
            if self.is_finished(shard):
                Path(lock.lock_file).unlink(missing_ok=True)  # whoever waits for it looks at the entry first
            lock.release()


def write_shard(
    folder: Path,
    shard: Shard,
    tokens: Stored,
    prefix_IPC: torch.Tensor,
    shapes: Sequence[tuple[int, int]] = (),
    sums_2C: torch.Tensor | None = None,
    encoder: str | None = None,
) -> dict[str, Any]:
    """Its files, then its entry, which is returned. `shapes`: of its pictures, where they are to be known. `sums_2C`:
    of its tokens, which a store's mean is made of. `encoder`: as `Claims` has it; stands in the file alone."""
    of_tokens = tokens.values_INC if tokens.scales_I2C is None else tokens.scales_I2C
    checked = (of_tokens if sums_2C is None else sums_2C, prefix_IPC)  # sums and scales are finite where all tokens are
    if not all(values.isfinite().all() for values in checked):
        most = torch.finfo(encoded_dtype(tokens.dtype)).max
        raise EncoderError(f"{shard.name}: a token is not finite in {tokens.dtype} (|x| <= {most:g} must hold)")
    files = {f"{VALUES}{tokens.dtype}": tokens.values_INC, ".class.fp16": prefix_IPC}  # empty where there are none
    if tokens.scales_I2C is not None:
        files[SCALES] = tokens.scales_I2C
    if sums_2C is not None and shard.split == "train":
        files[SUMS] = sums_2C
    digests_ = {}
    with disk(f"{folder}: shard {shard.name} not written", "; finished shards are kept"):
        for kind, values in files.items():
            name, content = f"{shard.name}{kind}", values.contiguous().view(-1).view(torch.uint8).numpy().data
            write_atomic(folder / name, content)
            digests_[name] = hashlib.sha256(content).hexdigest()
            note(folder / name, digests_[name])
        images, _, width = tokens.values_INC.shape
        about = {"split": shard.split, "images": images, "width": width, "shapes": list(shapes)}
        entry = {**about, "sha256": digests_}
        told = json.dumps(entry if encoder is None else {**entry, "encoder": encoder})
        write_atomic(folder / f"{shard.name}{ENTRY}", f"{hashlib.sha256(told.encode()).hexdigest()}\n{told}")
    return entry
