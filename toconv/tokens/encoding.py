"""Pictures → tokens: encoded once, shared by every trial, epoch and later sweep.

A store is a folder named by its fingerprint: fp16 shards and a manifest with a sha256 for each. An interruption costs
the shard in work."""

# B batch, N tokens of an image, P prefix tokens beside them, C channels

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock

from toconv.errors import DataError, EncoderError, MachineryError, disk
from toconv.hardware import resolve_device
from toconv.paths import free_bytes
from toconv.progress import bar, console, duration, phase, say
from toconv.settings import DataSettings, EncoderSettings, Settings
from toconv.tokens.encoder_models import count_blocks
from toconv.tokens.encoder_weights import architecture_identity, resolve_dtype, weights_identity
from toconv.tokens.encoders import load_encoder
from toconv.tokens.images import Picture, Splits, class_names, digests, keep_pictures, listed_and_skipped
from toconv.tokens.manifest import SPLITS, is_complete, read_manifest, write_manifest
from toconv.tokens.near_duplicates import keep_hashes
from toconv.tokens.readable import keep_reasons, unreadable
from toconv.tokens.shards import Shard, intact, keep_shards, look_again_at_one, plan_shards, write_shard
from toconv.tokens.store import memory_map

if TYPE_CHECKING:
    from toconv.tokens.pixels import Views

FORMAT = 1
FIRST_MINUTE = 300  # pictures that are encoded in it on a CPU
SPREAD = 1e-6  # standard deviations below this are taken as it: a channel that never varies


def fingerprint_parts(settings: Settings, splits: Splits) -> dict[str, Any]:
    """Everything that decides a token, as plain values."""
    encoder, data = settings.encoder, settings.data
    return {
        "format": FORMAT,
        "architecture": architecture_identity(encoder),
        "weights": _checked_weights(encoder),
        **{name: getattr(encoder, name) for name in ("layer", "image_size", "mean", "std")},
        "dtype": str(resolve_dtype(encoder, resolve_device(settings.hardware))),
        **{name: getattr(data, name) for name in ("crops", "seed")},
        "pictures": {
            name: [[p.key, d] for p, d in zip(pictures, digests(pictures, data.workers), strict=True)]
            for name, pictures in splits.items()
        },
    }


def _checked_weights(encoder: EncoderSettings) -> str:
    """The weights' identity. Raises EncoderError where `encoder.sha256` is given and the file's differs."""
    identity = weights_identity(encoder)
    if encoder.sha256 and identity != f"sha256:{encoder.sha256.lower()}":
        raise EncoderError(
            f"encoder.sha256={encoder.sha256}: {encoder.weights} has {identity}; give that one, or encoder.sha256=null"
        )
    return identity


def fingerprint(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def prepare_store(settings: Settings, before_encoding: Callable[[str], object] = lambda _: None) -> Path:
    """The folder of the settings' token store; encodes what is missing or damaged, once, with progress, after
    `before_encoding`, told the fingerprint, has made sure of what comes behind it. Raises EncoderError, DataError (all
    pictures that cannot be read) or MachineryError (a full disk); shards finished before stay."""
    console.print(settings.encoder.stated)
    with phase("listing and hashing pictures"):
        splits = _splits(settings.data)
        parts = fingerprint_parts(settings, splits)
    folder = settings.data.tokens_dir.resolve() / fingerprint(parts)
    with phase(f"waiting for {folder}, which another process encodes"):
        lock = _lock(folder).acquire()
    with lock:
        manifest = read_manifest(folder) or {"fingerprint": folder.name, "parts": parts, "shards": {}}
        shards = plan_shards(splits, settings.data)
        with phase(f"checking tokens in {folder}"):
            look_again_at_one(folder, manifest)
            missing = [shard for shard in shards if not intact(folder, manifest["shards"].get(shard.name))]
        if missing:
            _require_room(settings, folder, missing)
            before_encoding(folder.name)
        start = time.monotonic()
        if missing or not manifest.get("complete"):
            _encode(settings, folder, manifest, missing)
            _complete(settings, folder, manifest, [shard.name for shard in shards])
        keep_shards(folder, manifest)
        total = sum(shard["images"] for shard in manifest["shards"].values())
        done = sum(len(shard.pictures) for shard in missing) * settings.data.crops
        encoded = f"{done} encoded now in {duration(time.monotonic() - start)}" if done else "none encoded now"
        console.print(
            f"tokens: {total} images by {settings.encoder.name} in {parts['dtype'].removeprefix('torch.')}; {encoded}; "
            f"{folder}"
        )
    return folder


def _splits(data: DataSettings) -> Splits:
    """Says which pictures are skipped, and keeps that and what they look like for the next start."""
    splits, skipped = listed_and_skipped(data)
    for path, why in skipped.items():
        say(f"skipped: {path}: {why}")
    keep_hashes(data)
    keep_pictures(data, splits)
    if data.unreadable == "skip":
        with disk(f"{data.tokens_dir}: not written"):
            keep_reasons(data)
    return splits


def find_store(settings: Settings, splits: Splits) -> Path | None:
    """The folder of a complete store of these pictures, if there is one."""
    folder = store_folder(settings, splits)
    return folder if is_complete(folder) else None


def store_folder(settings: Settings, splits: Splits) -> Path:
    """The folder that a store of these pictures has, or would have."""
    return settings.data.tokens_dir.resolve() / fingerprint(fingerprint_parts(settings, splits))


def check_room(settings: Settings, splits: Splits, folder: Path) -> None:
    """Raises MachineryError where the disk has no room for the tokens that are still to be encoded into `folder`."""
    known = (read_manifest(folder) or {"shards": {}})["shards"]
    _require_room(settings, folder, [shard for shard in plan_shards(splits, settings.data) if shard.name not in known])


def _require_room(settings: Settings, folder: Path, missing: list[Shard]) -> None:
    images = sum(len(shard.pictures) for shard in missing) * settings.data.crops
    needed, free = estimated_bytes(settings, images), free_bytes(folder)
    if needed > free:
        raise MachineryError(
            f"{folder.parent}: {needed / 1e9:.2f} GB of tokens to write, but {free / 1e9:.2f} GB are free on its disk; "
            "free some, ask for fewer pictures, or choose another data.tokens_dir="
        )


def estimated_bytes(settings: Settings, images: int, sizes: Iterable[int] | None = None) -> int:
    """Disk that so many images take: fp16 tokens of each, and as much as a class token beside them. `sizes`: sides of
    the grids of smaller pictures' tokens, in place of the encoder's own."""
    sides = [settings.encoder.grid_size] if sizes is None else sizes
    return images * sum(side**2 + 1 for side in sides) * settings.encoder.width * 2


def _lock(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".lock")


def _encode(settings: Settings, folder: Path, manifest: dict[str, Any], missing: list[Shard]) -> None:
    if not missing:
        return
    try:
        _encode_shards(settings, folder, manifest, missing)
    except DataError as error:
        pictures = [picture for shard in missing for picture in shard.pictures]  # decode the rest too, to name them all
        raise _all_unreadable(settings.data, pictures) or error from error


def check_pictures(data: DataSettings, splits: Splits) -> None:
    """Raises DataError that names all that cannot be read of the pictures that a start meets in its first minute."""
    pictures = [picture for split in SPLITS for picture in splits[split]]
    if error := _all_unreadable(data, pictures[:FIRST_MINUTE]):
        raise error


def _all_unreadable(data: DataSettings, pictures: list[Picture]) -> DataError | None:
    found = unreadable({p.path: p.sha256 for p in pictures}, data)
    lines = [f"{path}: {why}" for path, why in found.items()]
    return DataError(*lines[:-1], f"{lines[-1]}; data.unreadable=skip goes on without") if lines else None


def _encode_shards(settings: Settings, folder: Path, manifest: dict[str, Any], missing: list[Shard]) -> None:
    from toconv.tokens.pixels import pixels_at  # start-up: torchvision, where nothing is encoded

    device = resolve_device(settings.hardware)
    encoder = load_encoder(settings.encoder, device)
    with bar("images") as progress:
        total = sum(len(shard.pictures) for shard in missing) * settings.data.crops
        task = progress.add_task(f"encoding with {settings.encoder.name}", total=total)
        for shard in missing:
            tokens, prefixes, shapes = [], [], list[tuple[int, int]]()
            views = pixels_at(shard.pictures, settings.data, settings.encoder, [settings.encoder.image_size])
            for pixels_B3HW in encoder_batches(_crops(views, shapes), settings.encoder.batch_size):
                tokens_BNC, prefix_BPC = encoder(pixels_B3HW.to(device))
                tokens.append(tokens_BNC.to(torch.float16).cpu())
                prefixes.append(prefix_BPC.to(torch.float16).cpu())
                progress.advance(task, len(pixels_B3HW))
            write_shard(folder, manifest, shard, torch.cat(tokens), torch.cat(prefixes), shapes)


def _crops(pictures: Iterable[Views], shapes: list[tuple[int, int]]) -> Iterator[torch.Tensor]:
    """The crops of each, at the one size; `shapes` gets the pictures' own."""
    for views in pictures:
        shapes.append(views.shape)
        yield views.at_size[0]


def encoder_batches(pictures: Iterable[torch.Tensor], size: int) -> Iterable[torch.Tensor]:
    """Crops of all pictures in a row, `size` at a time."""
    waiting: list[torch.Tensor] = []
    for crops in pictures:
        waiting += crops.unbind(0)
        while len(waiting) >= size:
            yield torch.stack(waiting[:size])
            del waiting[:size]
    if waiting:
        yield torch.stack(waiting)


def _complete(settings: Settings, folder: Path, manifest: dict[str, Any], order: list[str]) -> None:
    """Put shards into order and add the channels' mean and standard deviation over training tokens."""
    manifest["shards"] = {name: manifest["shards"][name] for name in order}
    encoder = settings.encoder
    manifest |= {"encoder": encoder.name, "grid_size": encoder.grid_size, "blocks": count_blocks(encoder)}
    manifest["classes"] = class_names(manifest["parts"]["pictures"], settings.data.kind)
    sums = torch.zeros(2, settings.encoder.width, dtype=torch.float64)
    count = 0
    for name, entry in manifest["shards"].items():
        if entry["split"] == "train":
            x = memory_map(folder / f"{name}.tokens.fp16", (-1, entry["width"])).double()
            sums += torch.stack([x.sum(0), x.square().sum(0)])
            count += len(x)
    mean = sums[0] / count
    std = (sums[1] / count - mean.square()).clamp(min=SPREAD**2).sqrt()
    manifest |= {"mean": mean.tolist(), "std": std.tolist(), "complete": True}
    write_manifest(folder, manifest)
