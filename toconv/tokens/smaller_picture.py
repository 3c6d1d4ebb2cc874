"""The smaller picture: every picture of a store at so few pixels that the encoder itself gives k×k tokens of it.

The control of VTC-Bench (arXiv 2510.07143): the same crop, resized to patch_size·k pixels, at the same layer. Its
tokens lie beside the store's as a token store of their own, with the large one's mean and standard deviation."""

# B batch, I images of a store, N = g*g tokens of the grid, M = k*k tokens of the smaller picture, C channels

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from toconv.errors import DataError, MachineryError, StoreError
from toconv.hardware import resolve_device
from toconv.paths import free_bytes, write_atomic
from toconv.progress import bar
from toconv.settings import DataSettings, Settings
from toconv.tokens.encoders import FrozenEncoder, load_encoder
from toconv.tokens.encoding import Shard, encoder_batches, intact, plan_shards, write_shard
from toconv.tokens.images import SPLITS, list_splits
from toconv.tokens.manifest import read_manifest
from toconv.tokens.pixels import pixels_at
from toconv.tokens.resized_encoder import resized_encoder
from toconv.tokens.store import TokenStore

FORMAT = 1
SAME = 1e-2  # largest difference of a standardised number, within which two tokens are the same image's


def smaller_store(store: TokenStore, k: int) -> TokenStore | None:
    """The smaller pictures' tokens, images as in `store`; None where `encode_smaller` has not made them."""
    try:
        return TokenStore(_folder(store, k))
    except StoreError:
        return None


class SmallerPictures:
    """Standardised (B, N, C) tokens of images of `store` → (B, M, C) of their smaller pictures, in the same units: an
    image is known by the token in the middle of its grid."""

    def __init__(self, store: TokenStore, smaller: TokenStore, device: torch.device) -> None:
        self._smaller, self._middle = smaller, store.grid_size**2 // 2
        known_IC = torch.cat([tokens_INC[:, self._middle] for split in SPLITS for tokens_INC in store.maps(split)])
        self._mean_C, self._std_C = store.mean_C.to(device), store.std_C.to(device)
        self._known_IC = self._standardised(known_IC.to(device))
        self._ends = torch.tensor([store.count(split) for split in SPLITS]).cumsum(0)

    def __call__(self, x_BNC: torch.Tensor) -> torch.Tensor:
        """Raises StoreError where a token is of no image of the store."""
        z_BMC = torch.empty(len(x_BNC), self._smaller.grid_size**2, self._smaller.width, dtype=torch.float16)
        image_B = self._images(x_BNC[:, self._middle].float()).cpu()
        split_B = torch.searchsorted(self._ends, image_B, right=True)
        for number, split in enumerate(SPLITS):
            here = (split_B == number).nonzero().flatten()
            of_split = image_B[here] - (int(self._ends[number - 1]) if number else 0)
            ascending = of_split.sort()
            z_BMC[here[ascending.indices]] = self._smaller.read(split, ascending.values)
        return self._standardised(z_BMC.to(x_BNC.device))

    def _images(self, token_BC: torch.Tensor) -> torch.Tensor:
        """(B,) where each stands in the row of all splits' images: the nearest by distance."""
        with torch.autocast(token_BC.device.type, enabled=False):
            image_B = (token_BC @ self._known_IC.T - self._known_IC.square().sum(1) / 2).argmax(1)
        if (token_BC - self._known_IC[image_B]).abs().max() > SAME:
            raise StoreError(f"{self._smaller.folder}: has no smaller picture of these tokens")
        return image_B

    def _standardised(self, raw: torch.Tensor) -> torch.Tensor:
        return (raw.float() - self._mean_C) / self._std_C


def encode_smaller(settings: Settings, store: TokenStore, sizes: Sequence[int]) -> None:
    """Make what `smaller_store` gives at each k of `sizes`; each picture is decoded once for all of them, and finished
    shards stay. Raises DataError where the pictures of the store are not there any more or cannot be read, EncoderError
    where the encoder cannot be had at such a size."""
    with FileLock(store.derived / "smaller.lock"):
        manifests = {k: _manifest(store, k) for k in sizes}
        if all(manifest.get("complete") and _whole(store, k, manifest) for k, manifest in manifests.items()):
            return
        shards = plan_shards(_pictures(settings.data, store), settings.data)
        missing = {
            shard.name: [k for k in sizes if not intact(_folder(store, k), manifests[k]["shards"].get(shard.name))]
            for shard in shards
        }
        _require_room(store, missing, settings.data)
        _encode(settings, store, manifests, [(shard, missing[shard.name]) for shard in shards])
        for k, manifest in manifests.items():
            manifest["shards"] = {shard.name: manifest["shards"][shard.name] for shard in shards}
            write_atomic(_folder(store, k) / "manifest.json", json.dumps({**manifest, "complete": True}, indent=1))


def _folder(store: TokenStore, k: int) -> Path:
    return store.derived / f"smaller-{FORMAT}-k{k}"


def _manifest(store: TokenStore, k: int) -> dict[str, Any]:
    """What is there already, or the beginning."""
    try:
        found = read_manifest(_folder(store, k))
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


def _whole(store: TokenStore, k: int, manifest: dict[str, Any]) -> bool:
    return all(intact(_folder(store, k), entry) for entry in manifest["shards"].values())


def _pictures(data: DataSettings, store: TokenStore) -> dict[str, Any]:
    """The pictures of each split. Raises DataError where they are not those that the store is of."""
    splits = list_splits(data)
    known = (read_manifest(store.folder) or {})["parts"].get("pictures")
    if known != {split: [[p.key, p.sha256] for p in splits[split]] for split in SPLITS}:
        raise DataError(f"the pictures of {store.folder} are not there any more")
    return splits


def _require_room(store: TokenStore, missing: dict[str, list[int]], data: DataSettings) -> None:
    images = sum(map(store.count, SPLITS))
    needed = sum(images * (k * k + 1) * store.width * 2 for k in {k for sizes in missing.values() for k in sizes})
    free = free_bytes(store.folder)
    if needed > free:
        raise MachineryError(
            f"{store.derived}: {needed / 1e9:.2f} GB of smaller pictures' tokens to write, but {free / 1e9:.2f} GB are "
            "free on its disk; free some, or ask for baselines=false"
        )


def _encode(
    settings: Settings, store: TokenStore, manifests: dict[int, dict[str, Any]], work: list[tuple[Shard, list[int]]]
) -> None:
    asked, device = settings.encoder, resolve_device(settings.hardware)
    encoder = load_encoder(asked, device)
    encoders = {k: resized_encoder(encoder, asked.patch_size, k) for k in manifests}
    with bar("pictures") as progress:
        task = progress.add_task("smaller pictures", total=sum(len(shard.pictures) for shard, _ in work))
        for shard, sizes in work:
            crops: dict[int, list[torch.Tensor]] = {k: [] for k in sizes}
            at_sizes = [asked.patch_size * k for k in sizes]
            for of_picture in pixels_at(shard.pictures if sizes else [], settings.data, asked, at_sizes):
                for k, crops_K3HW in zip(sizes, of_picture, strict=True):
                    crops[k].append(crops_K3HW)
            for k in sizes:
                batch_size = asked.batch_size * store.grid_size**2 // k**2  # as many tokens as of large pictures
                tokens, classes = _tokens(encoders[k], crops.pop(k), batch_size, device)
                write_shard(_folder(store, k), manifests[k], shard, tokens, classes)
            progress.advance(task, len(shard.pictures))


def _tokens(
    encoder: FrozenEncoder, crops: Iterable[torch.Tensor], batch_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """fp16 (I, M, C) and (I, C)."""
    found = [encoder(pixels_B3HW.to(device)) for pixels_B3HW in encoder_batches(crops, batch_size)]
    tokens, classes = (torch.cat([x.to(torch.float16).cpu() for x in parts]) for parts in zip(*found, strict=True))
    return tokens, classes
