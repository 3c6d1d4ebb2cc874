"""The smaller pictures' tokens, as they lie beside a store."""

# B batch, N = g*g tokens of the grid, M = k*k tokens of the smaller picture, C channels

from pathlib import Path

import torch

from toconv.errors import StoreError
from toconv.tokens.known_images import KnownImages
from toconv.tokens.manifest import DERIVED, SPLITS
from toconv.tokens.store import TokenStore

FORMAT = 1


def smaller_folder(store: Path, k: int) -> Path:
    """Of those beside the store in a folder."""
    return store / DERIVED / f"smaller-{FORMAT}-k{k}"


def smaller_store(store: TokenStore, k: int) -> TokenStore | None:
    """The smaller pictures' tokens as a store of its own, images as in `store`; None where `encode_smaller` has not
    made them."""
    try:
        return TokenStore(smaller_folder(store.folder, k))
    except StoreError:
        return None


class SmallerPictures:
    """Standardised (B, N, C) tokens of images of `store` → (B, M, C) of their smaller pictures, in the same units."""

    def __init__(self, store: TokenStore, smaller: TokenStore, device: torch.device) -> None:
        self._smaller, self._known = smaller, KnownImages(store, device)
        self._ends = torch.tensor([store.count(split) for split in SPLITS]).cumsum(0)

    def __call__(self, x_BNC: torch.Tensor) -> torch.Tensor:
        """Raises StoreError where an image is none of the store's."""
        z_BMC = torch.empty(len(x_BNC), self._smaller.grid_size**2, self._smaller.width, dtype=torch.float16)
        image_B = self._known(x_BNC).cpu()
        split_B = torch.searchsorted(self._ends, image_B, right=True)
        for number, split in enumerate(SPLITS):
            here = (split_B == number).nonzero().flatten()
            of_split = image_B[here] - (int(self._ends[number - 1]) if number else 0)
            ascending = of_split.sort()
            z_BMC[here[ascending.indices]] = self._smaller.read(split, ascending.values)
        return self._known.standardised(z_BMC.to(x_BNC.device))
