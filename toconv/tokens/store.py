"""Tokens on disk: a folder of fp16 shards, read by memory map."""

# B batch, N tokens of an image, P prefix tokens beside them, C channels

import itertools
from pathlib import Path

import torch

from toconv.errors import StoreError
from toconv.tokens.crop_boxes import Box, crop_box
from toconv.tokens.manifest import SPLITS, read_manifest


def memory_map(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """A file of fp16 values by private memory map: pages are shared between processes."""
    if not path.stat().st_size:  # which no memory map has
        return torch.empty(0, dtype=torch.float16).view(shape)
    return torch.from_file(str(path), shared=False, size=path.stat().st_size // 2, dtype=torch.float16).view(shape)


class TokenStore:
    """A complete store, read by memory map. Tokens are raw fp16, (N, C) an image, in the pictures' order."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if not manifest or not manifest.get("complete"):
            raise StoreError(f"{folder}: not a complete token store")
        self.folder, self.fingerprint, self.encoder_name = folder, manifest["fingerprint"], manifest["encoder"]
        self.crops = int(manifest["parts"].get("crops", 1))  # images of one picture, one after the other
        self.grid_size, self.blocks = manifest["grid_size"], manifest.get("blocks")  # the encoder's, where it is known
        self.classes: dict[str, list[str]] = manifest.get("classes", {})  # of each split's pictures, where known
        self._parts = manifest["parts"]
        self._shapes = {
            split: [shape for e in manifest["shards"].values() if e["split"] == split for shape in e.get("shapes", [])]
            for split in SPLITS
        }
        self.mean_C, self.std_C = (torch.tensor(manifest[k], dtype=torch.float32) for k in ("mean", "std"))
        self.width = len(self.mean_C)
        self._shards = {
            split: [(name, e["images"]) for name, e in manifest["shards"].items() if e["split"] == split]
            for split in SPLITS
        }
        self._tokens = {split: self._open(split) for split in SPLITS}
        self._rows_of = {split: [self._rows(tokens_INC) for tokens_INC in maps] for split, maps in self._tokens.items()}
        counts = {split: [0, *(images for _, images in shards)] for split, shards in self._shards.items()}
        self._starts = {split: torch.tensor(images).cumsum(0) for split, images in counts.items()}

    def _open(self, split: str) -> list[torch.Tensor]:
        maps = []
        for name, images in self._shards[split]:
            path = self.folder / f"{name}.tokens.fp16"
            expected = images * self.grid_size**2 * self.width * 2
            if not path.is_file() or path.stat().st_size != expected:
                raise StoreError(f"{path}: must hold {expected} bytes; run the same command again to encode it anew")
            maps.append(memory_map(path, (images, self.grid_size**2, self.width)))
        return maps

    @property
    def derived(self) -> Path:
        """The folder of what is computed from the tokens once and kept beside them."""
        folder = self.folder / "derived"
        folder.mkdir(exist_ok=True)
        return folder

    def count(self, split: str) -> int:
        """Images of a split, crops counted singly."""
        return int(self._starts[split][-1])

    def maps(self, split: str) -> list[torch.Tensor]:
        """The (I, N, C) fp16 tokens of each shard as they lie on the disk, by memory map."""
        return list(self._tokens[split])

    def class_tokens(self, split: str) -> torch.Tensor:
        """(I, P, C) fp32 prefix tokens of all images of a split, raw: class token and registers, as the encoder has
        them, if any."""
        files = ((self.folder / f"{name}.class.fp16", images) for name, images in self._shards[split])
        return torch.cat([memory_map(path, (images, -1, self.width)).float() for path, images in files])

    def boxes(self, split: str) -> list[Box] | None:
        """Which part of its picture each image shows; None where the store has one image of each, or does not know."""
        pictures, shapes = self._parts.get("pictures", {}).get(split, []), self._shapes[split]
        if self.crops < 2 or not shapes or len(shapes) != len(pictures):
            return None
        seed = self._parts["seed"]
        return [
            crop_box(key, number, seed, shape)
            for (key, *_), shape in zip(pictures, shapes, strict=True)
            for number in range(self.crops)
        ]

    def read(self, split: str, indices: torch.Tensor, out_BNC: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N, C) fp16 tokens of the images at `indices` (B,), which must ascend; read into `out_BNC` if given.
        Gathered by rows of the grid, which threads share more evenly than whole images."""
        if out_BNC is None:
            out_BNC = torch.empty(len(indices), self.grid_size**2, self.width, dtype=torch.float16)
        g, starts, out = self.grid_size, self._starts[split], self._rows(out_BNC)
        ends = (g * torch.searchsorted(indices, starts)).tolist()  # of each shard's rows in the batch
        of_shard_I = indices - starts[torch.searchsorted(starts, indices, right=True) - 1]
        rows = (g * of_shard_I[:, None] + torch.arange(g)).flatten()
        for shard, (first, end) in enumerate(itertools.pairwise(ends)):
            if first < end:
                torch.index_select(self._rows_of[split][shard], 0, rows[first:end], out=out[first:end])
        return out_BNC

    def _rows(self, x_INC: torch.Tensor) -> torch.Tensor:
        """(I·g, g·C): the rows of all grids, one after the other."""
        return x_INC.view(-1, self.grid_size * self.width)
