"""The smaller picture: every picture of a store at so few pixels that the encoder itself gives k×k tokens of it.

The control of VTC-Bench (arXiv 2510.07143): the same crop, resized to patch_size·k pixels, at the same layer. Its
tokens lie beside the store's as a token store of their own, with the large one's mean and standard deviation, always
in fp16."""

# B batch, I images of a store, M = k*k tokens of the smaller picture, C channels

import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock

from toconv.errors import DataError, StoreError, disk
from toconv.hardware import resolve_device
from toconv.progress import bar
from toconv.settings import DataSettings, Settings
from toconv.tokens.encode_shards import POLL_SECONDS, Helper, encoder_batches, has_ended
from toconv.tokens.encoders import FrozenEncoder, load_encoder
from toconv.tokens.images import list_splits
from toconv.tokens.manifest import SPLITS, read_manifest, write_manifest
from toconv.tokens.pixels import pixels_at
from toconv.tokens.resized_encoder import resized_encoder
from toconv.tokens.room import check_room
from toconv.tokens.shards import Claims, Shard, entries, intact, keep_shards, plan_shards, write_shard
from toconv.tokens.smaller_store import FORMAT, smaller_folder
from toconv.tokens.store import TokenStore
from toconv.tokens.stored import Stored


class Lacking(NamedTuple):
    """Shards of the smaller pictures that are to be encoded, and at which k each. Others may have them to share it."""

    claims: dict[int, Claims]  # by k
    shards: list[tuple[Shard, list[int]]]

    def of(self, sizes: Sequence[int]) -> Claims:
        """Those of the k that is written last."""
        return self.claims[sizes[-1]]


HelpersOf = Callable[[Lacking], Sequence[Helper]]


def encode_smaller(
    settings: Settings, store: TokenStore, sizes: Sequence[int], helpers_of: HelpersOf = lambda lacking: ()
) -> None:
    """Make what `smaller_store` gives at each k of `sizes`; each picture is decoded once for all of them, and finished
    shards stay. While helpers work this process watches; what they leave it encodes. Raises DataError where the
    pictures of the store are not there any more or cannot be read, EncoderError where the encoder cannot be had at such
    a size."""
    with FileLock(store.derived / "smaller.lock"):
        folders = {k: smaller_folder(store.folder, k) for k in sizes}
        manifests = {k: _manifest(store, k) for k in sizes}
        if all(manifests[k].get("complete") and _whole(folders[k], manifests[k]) for k in sizes):
            return
        shards = plan_shards(_pictures(settings.data, store), settings.data)
        for k in sizes:
            manifests[k]["shards"] = entries(folders[k], manifests[k])
        work = [(s, [k for k in sizes if not intact(folders[k], manifests[k]["shards"].get(s.name))]) for s in shards]
        lacking = Lacking(
            {k: Claims(folders[k], shards) for k in sizes}, [(s, missing) for s, missing in work if missing]
        )
        check_room(settings, store.folder, [], {k for _, missing in lacking.shards for k in missing})
        _encode(settings, lacking, helpers_of(lacking))
        for k in sizes:
            found = entries(folders[k], manifests[k])
            manifests[k] |= {"shards": {s.name: found[s.name] for s in shards}, "complete": True}
            write_manifest(folders[k], manifests[k])
            keep_shards(folders[k], manifests[k])


def _manifest(store: TokenStore, k: int) -> dict[str, Any]:
    """What is there already, or the beginning."""
    try:
        found = read_manifest(smaller_folder(store.folder, k))
    except StoreError:
        found = None
    return found or {
        "fingerprint": f"{store.fingerprint}-smaller-{FORMAT}-k{k}",
        "parts": {"crops": store.crops, "smaller_pictures_of": store.fingerprint},
        "shards": {},
        "encoder": store.encoder_name,
        "grid_size": k,
        "blocks": store.blocks,
        "mean": store.mean_C.tolist(),
        "std": store.std_C.tolist(),
    }


def _whole(folder: Path, manifest: dict[str, Any]) -> bool:
    return all(intact(folder, entry) for entry in manifest["shards"].values())


def _pictures(data: DataSettings, store: TokenStore) -> dict[str, Any]:
    """The pictures of each split. Raises DataError where they are not those that the store is of."""
    splits = list_splits(data)
    known = (read_manifest(store.folder) or {})["parts"].get("pictures")
    if known != {split: [[p.key, p.sha256] for p in splits[split]] for split in SPLITS}:
        raise DataError(f"the pictures of {store.folder} are not there any more")
    return splits


def _encode(settings: Settings, lacking: Lacking, helpers: Sequence[Helper]) -> None:
    """Until all is there."""
    device, left, working = _Device(settings), lacking.shards, [*helpers]
    with bar("pictures") as progress:
        task = progress.add_task("smaller pictures", total=_pictures_of(left))
        while left:
            working = [helper for helper in working if not has_ended(helper)]
            if working or not device.encode(lacking, *left[0]):
                time.sleep(POLL_SECONDS)
            before = left
            left = [(shard, sizes) for shard, sizes in left if not lacking.of(sizes).is_finished(shard)]
            progress.advance(task, _pictures_of(before) - _pictures_of(left))


def _pictures_of(work: Iterable[tuple[Shard, list[int]]]) -> int:
    return sum(len(shard.pictures) for shard, _ in work)


def encode_smaller_share(settings: Settings, lacking: Lacking) -> None:
    """What one device of several encodes: what nobody else has, until there is nothing."""
    device = _Device(settings)
    for shard, sizes in lacking.shards:
        device.encode(lacking, shard, sizes)


class _Device:
    """Has the encoder from the first shard on."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._at = settings, dict[int, FrozenEncoder]()
        self._device = resolve_device(settings.hardware)

    @cached_property
    def _encoder(self) -> FrozenEncoder:
        return load_encoder(self._settings.encoder, self._device)

    def _encoder_at(self, k: int) -> FrozenEncoder:
        if k not in self._at:
            self._at[k] = resized_encoder(self._encoder, self._settings.encoder.patch_size, k)
        return self._at[k]

    def encode(self, lacking: Lacking, shard: Shard, sizes: Sequence[int]) -> bool:
        """Whether the shard was free, and now is there at all these k."""
        asked, claims = self._settings.encoder, lacking.of(sizes)
        for k in sizes:
            with disk(f"{lacking.claims[k].folder}: cannot be written"):
                lacking.claims[k].folder.mkdir(parents=True, exist_ok=True)
        with claims.claimed(shard) as is_free:
            if not is_free:
                return False
            encoders = {k: self._encoder_at(k) for k in sizes}
            crops: dict[int, list[torch.Tensor]] = {k: [] for k in sizes}
            at_sizes = [asked.patch_size * k for k in sizes]
            for of_picture in pixels_at(shard.pictures, self._settings.data, asked, at_sizes):
                for k, crops_K3HW in zip(sizes, of_picture.at_size, strict=True):
                    crops[k].append(crops_K3HW)
            for k in sizes:
                batch_size = asked.batch_size * asked.grid_size**2 // k**2  # as many tokens as of large pictures
                tokens, classes = _tokens(encoders[k], crops.pop(k), batch_size, self._device)
                write_shard(lacking.claims[k].folder, shard, Stored(tokens), classes)
        return True


def _tokens(
    encoder: FrozenEncoder, crops: Iterable[torch.Tensor], batch_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """fp16 tokens (I, M, C) and prefix tokens (I, P, C)."""
    found = [encoder(pixels_B3HW.to(device)) for pixels_B3HW in encoder_batches(crops, batch_size)]
    tokens, classes = (torch.cat([x.to(torch.float16).cpu() for x in parts]) for parts in zip(*found, strict=True))
    return tokens, classes
