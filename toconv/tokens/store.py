"""Tokens on disk: a folder of shards, read by memory map."""

# B batch, N tokens of an image, P prefix tokens beside them, C channels

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from toconv.errors import StoreError
from toconv.tokens.crop_boxes import Box, crop_box
from toconv.tokens.manifest import DERIVED, SPLITS, Content, read_manifest
from toconv.tokens.stored import DTYPES, SCALES, VALUES, Stored

if TYPE_CHECKING:  # the GPU benchmarks do without what it needs
    from toconv.tokens.local_cache import Copies, LocalCache


def memory_map(path: Path, shape: tuple[int, ...], dtype: torch.dtype = torch.float16) -> torch.Tensor:
    """A file of values by private memory map: pages are shared between processes."""
    size = path.stat().st_size // dtype.itemsize
    if not size:  # which no memory map has
        return torch.empty(0, dtype=dtype).view(shape)
    return torch.from_file(str(path), shared=False, size=size, dtype=dtype).view(shape)


def _map(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    expected = math.prod(shape) * dtype.itemsize
    if not path.is_file() or path.stat().st_size != expected:
        raise StoreError(f"{path}: must hold {expected} bytes; run the same command again to encode it anew")
    return memory_map(path, shape, dtype)


class TokenStore:
    """A complete store, read by memory map. Tokens are raw, (N, C) an image, in the pictures' order."""

    def __init__(self, folder: Path, cache: LocalCache | None = None) -> None:
        """With a `cache` tokens are read from its copies, which stay as long as the store is open; `uncopied` says of
        a split for which there is no room that it is read where it lies, and why."""
        manifest = read_manifest(folder)
        if not manifest or not manifest.get("complete"):
            raise StoreError(f"{folder}: not a complete token store")
        self.folder, self.fingerprint, self.encoder_name = folder, manifest["fingerprint"], manifest["encoder"]
        self.crops = int(manifest["parts"].get("crops", 1))  # images of one picture, one after the other
        self.grid_size, self.blocks = manifest["grid_size"], manifest.get("blocks")  # the encoder's, where it is known
        self.classes: dict[str, list[str]] = manifest.get("classes", {})  # of each split's pictures, where known
        self.dtype: str = manifest["parts"].get("stored", "fp16")
        if self.dtype not in [*DTYPES]:  # a list of a damaged manifest has no hash
            raise StoreError(f"{folder}: its tokens are stored as {self.dtype}, known are {', '.join(DTYPES)}")
        self._of_crops = manifest if self.crops > 1 else None  # for `boxes`; of a million pictures some hundred MB
        self.mean_C, self.std_C = (torch.tensor(manifest[k], dtype=torch.float32) for k in ("mean", "std"))
        self.width = len(self.mean_C)
        self._shards = {
            split: [(name, e["images"]) for name, e in manifest["shards"].items() if e["split"] == split]
            for split in SPLITS
        }
        found = {split: cache.copies(self._files(split, manifest)) for split in SPLITS} if cache else {}
        self._copies = {split: copies for split, copies in found.items() if not isinstance(copies, str)}
        self.uncopied = {
            f"{split} tokens of {folder}": f"read where they lie: {why}"
            for split, why in found.items()
            if isinstance(why, str)
        }
        self._stored = {split: self._open(split, self._copies.get(split)) for split in SPLITS}
        self._rows_of = {split: [self._rows(of_shard) for of_shard in found] for split, found in self._stored.items()}
        counts = {split: [0, *(images for _, images in shards)] for split, shards in self._shards.items()}
        self._starts = {split: torch.tensor(images).cumsum(0) for split, images in counts.items()}

    def _files(self, split: str, manifest: Mapping[str, Any]) -> dict[Path, Content]:
        """Of all tokens of a split."""
        of_image = {f"{VALUES}{self.dtype}": self.grid_size**2 * self.width * DTYPES[self.dtype].itemsize}
        if self._has_scales:
            of_image[SCALES] = 2 * self.width * torch.float32.itemsize
        digests = {name: manifest["shards"][name]["sha256"] for name, _ in self._shards[split]}
        return {
            self.folder / f"{name}{kind}": Content(digests[name].get(f"{name}{kind}", ""), images * size)
            for name, images in self._shards[split]
            for kind, size in of_image.items()
        }

    def _open(self, split: str, copies: Copies | None) -> list[Stored]:
        folder, found = copies.folder if copies else self.folder, []
        for name, images in self._shards[split]:
            values_INC = _map(
                folder / f"{name}{VALUES}{self.dtype}", (images, self.grid_size**2, self.width), DTYPES[self.dtype]
            )
            scales_I2C = None
            if self._has_scales:
                scales_I2C = _map(folder / f"{name}{SCALES}", (images, 2, self.width), torch.float32)
            found.append(Stored(values_INC, scales_I2C))
        return found

    @property
    def _has_scales(self) -> bool:
        return self.dtype == "int8"

    @property
    def derived(self) -> Path:
        """The folder of what is computed from the tokens once and kept beside them."""
        folder = self.folder / DERIVED
        folder.mkdir(exist_ok=True)
        return folder

    def count(self, split: str) -> int:
        """Images of a split, crops counted singly."""
        return int(self._starts[split][-1])

    def maps(self, split: str) -> list[torch.Tensor]:
        """The (I, N, C) values of each shard as they lie on the disk, by memory map."""
        return [of_shard.values_INC for of_shard in self._stored[split]]

    def at_place(self, split: str, place: int, channels: int) -> torch.Tensor:
        """(I, channels) fp32: the first channels of each image's token at this place of the grid."""
        of_all = (s.each(lambda x: x[..., :channels]) for s in self._stored[split])
        found = (Stored(s.values_INC[:, place : place + 1], s.scales_I2C).raw().float() for s in of_all)
        return torch.cat([x_I1L[:, 0] for x_I1L in found])

    def empty(self, images: int, pinned: bool = False) -> Stored:
        """What so many images are read into."""
        values_INC = torch.empty(images, self.grid_size**2, self.width, dtype=DTYPES[self.dtype], pin_memory=pinned)
        return Stored(values_INC, torch.empty(images, 2, self.width, pin_memory=pinned) if self._has_scales else None)

    def class_tokens(self, split: str) -> torch.Tensor:
        """(I, P, C) fp32 prefix tokens of all images of a split, raw: class token and registers, as the encoder has
        them, if any."""
        files = ((self.folder / f"{name}.class.fp16", images) for name, images in self._shards[split])
        return torch.cat([memory_map(path, (images, -1, self.width)).float() for path, images in files])

    def boxes(self, split: str) -> list[Box] | None:
        """Which part of its picture each image shows; None where the store has one image of each, or does not know."""
        if self._of_crops is None:
            return None
        parts, shards = self._of_crops["parts"], self._of_crops["shards"].values()
        pictures = parts.get("pictures", {}).get(split, [])
        shapes = [shape for entry in shards if entry["split"] == split for shape in entry.get("shapes", [])]
        if not shapes or len(shapes) != len(pictures):
            return None
        seed = parts["seed"]
        return [
            crop_box(key, number, seed, shape)
            for (key, *_), shape in zip(pictures, shapes, strict=True)
            for number in range(self.crops)
        ]

    def read(self, split: str, indices: torch.Tensor) -> torch.Tensor:
        """(B, N, C) tokens of the images at `indices` (B,), which must ascend: as they are stored, of int8 in fp32."""
        return self.read_stored(split, indices, self.empty(len(indices))).raw()

    def read_stored(self, split: str, indices: torch.Tensor, out: Stored) -> Stored:
        """What is stored of the images at `indices` (B,), which must ascend, read into `out`, which is returned.
        Gathered by rows of the grid, which threads share more evenly than whole images."""
        g, starts, rows_out = self.grid_size, self._starts[split], self._rows(out)
        ends = (g * torch.searchsorted(indices, starts)).tolist()  # of each shard's rows in the batch
        of_shard_I = indices - starts[torch.searchsorted(starts, indices, right=True) - 1]
        rows = (g * of_shard_I[:, None] + torch.arange(g)).flatten()
        for shard, (first, end) in enumerate(itertools.pairwise(ends)):
            if first < end:
                torch.index_select(self._rows_of[split][shard], 0, rows[first:end], out=rows_out[first:end])
                if out.scales_I2C is not None and (scales := self._stored[split][shard].scales_I2C) is not None:
                    images = slice(first // g, end // g)
                    torch.index_select(scales, 0, of_shard_I[images], out=out.scales_I2C[images])
        return out

    def _rows(self, of_images: Stored) -> torch.Tensor:
        """(I·g, g·C): the rows of all grids, one after the other."""
        return of_images.values_INC.view(-1, self.grid_size * self.width)
