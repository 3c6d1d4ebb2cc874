"""Shards of a token store: written by rename, each with a sha256, and known to be whole without reading them all."""

# I images of a shard, N tokens of an image, P prefix tokens beside them, C channels

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from toconv.errors import EncoderError, disk
from toconv.known_files import forget, keep_known, known_sha256, note, read_known
from toconv.paths import write_atomic
from toconv.settings import DataSettings
from toconv.tokens.images import Picture, Splits
from toconv.tokens.manifest import SHARD_CROPS, SPLITS, write_manifest

KNOWN = "known-files.json"  # of a store


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


def write_shard(
    folder: Path,
    manifest: dict[str, Any],
    shard: Shard,
    tokens: torch.Tensor,
    prefixes: torch.Tensor,
    shapes: Sequence[tuple[int, int]] = (),
) -> None:
    """Its files, then the manifest that names them. `shapes`: of its pictures, where they are to be known."""
    if not (torch.isfinite(tokens).all() and torch.isfinite(prefixes).all()):
        raise EncoderError(f"{shard.name}: a token is not finite in fp16 (|x| <= 65504 must hold)")
    digests_ = {}
    with disk(f"{folder}: shard {shard.name} not written", "; finished shards are kept"):
        for kind, values in (("tokens", tokens), ("class", prefixes)):  # empty where there are none
            name, content = f"{shard.name}.{kind}.fp16", values.contiguous().view(-1).numpy().data.cast("B")
            write_atomic(folder / name, content)
            digests_[name] = hashlib.sha256(content).hexdigest()
            note(folder / name, digests_[name])
        about = {"split": shard.split, "images": len(tokens), "width": tokens.shape[2], "shapes": list(shapes)}
        manifest["shards"][shard.name] = {**about, "sha256": digests_}
        write_manifest(folder, manifest)
