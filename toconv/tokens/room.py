"""Disk that tokens take: those of a store, and those of smaller pictures beside it."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from toconv.errors import MachineryError, StoreError
from toconv.paths import free_bytes
from toconv.progress import size
from toconv.settings import Settings
from toconv.tokens.manifest import read_manifest
from toconv.tokens.shards import Shard, entries
from toconv.tokens.smaller_store import smaller_folder
from toconv.tokens.stored import bytes_of_image


def check_room(settings: Settings, folder: Path, missing: Sequence[Shard], smaller: Iterable[int] = ()) -> None:
    """Raises MachineryError where the disk has no room for `missing` shards of the store in `folder` and, of sides
    `smaller` of grids, those shards of smaller pictures' tokens that are not finished."""
    images = sum(len(shard.pictures) for shard in missing) * settings.data.crops
    beside = sum(estimated_bytes(settings, left, [k]) for k, left in _smaller(settings, folder, missing, smaller))
    own, free = estimated_bytes(settings, images), free_bytes(folder)
    if own + beside > free:
        parts = {"tokens": own, "smaller pictures' tokens": beside}
        told = " and ".join(f"{size(count)} of {what}" for what, count in parts.items() if count)
        remedies: dict[str, object] = {
            "ask for fewer pictures": own,
            "ask for store.dtype=int8": own and settings.store.dtype != "int8",
            "ask for baselines=false": beside,
        }
        offered = ", ".join(remedy for remedy, helps in remedies.items() if helps)
        raise MachineryError(
            f"{folder.parent}: {told} to write, but {size(free)} are free on its disk; "
            f"free some, {offered}, or choose another data.tokens_dir="
        )


def _smaller(
    settings: Settings, folder: Path, missing: Sequence[Shard], sizes: Iterable[int]
) -> Iterable[tuple[int, int]]:
    """(k, images whose smaller pictures are still to be encoded at it)."""
    if sizes := [*sizes]:
        finished = {name: entry["images"] for name, entry in _entries(folder).items()}
        images = finished | {shard.name: len(shard.pictures) * settings.data.crops for shard in missing}
        for k in sizes:
            yield k, sum(images[name] for name in images.keys() - _entries(smaller_folder(folder, k)))


def _entries(folder: Path) -> Mapping[str, Any]:
    with suppress(StoreError):  # of smaller pictures: all are encoded again
        return entries(folder, read_manifest(folder) or {"shards": {}})
    return {}


def estimated_bytes(settings: Settings, images: int, sizes: Iterable[int] | None = None) -> int:
    """Disk that so many images take: tokens of each, and as much as a class token beside them. `sizes`: sides of the
    grids of smaller pictures' tokens, which are fp16, in place of the encoder's own."""
    c, whole = settings.encoder.width, (settings.encoder.grid_size, settings.store.dtype)
    grids = [whole] if sizes is None else [(side, "fp16") for side in sizes]
    return images * sum(bytes_of_image(side**2, c, dtype) + bytes_of_image(1, c) for side, dtype in grids)
