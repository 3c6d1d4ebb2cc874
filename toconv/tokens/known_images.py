"""Which image of a store tokens are of: for what is known of its images beside their tokens."""

# B batch, N = g*g tokens of the grid, I images of a store, C channels, L of them that are looked at

import torch

from toconv.errors import StoreError
from toconv.tokens.manifest import SPLITS
from toconv.tokens.store import TokenStore

LOOKED_AT = 32  # channels, of which 1.3 million images are 164 MB
SAME = 1e-2  # largest difference of a standardised number, within which two tokens are the same image's


class KnownImages:
    """An image is known by the token in the middle of its grid, which attention has made of all of it."""

    def __init__(self, store: TokenStore, device: torch.device) -> None:
        self._store, self._middle = store, store.grid_size**2 // 2
        self.mean_C, self.std_C = store.mean_C.to(device), store.std_C.to(device)
        known_IL = torch.cat([store.at_place(split, self._middle, LOOKED_AT) for split in SPLITS]).to(device)
        self._known_IL = (known_IL - self.mean_C[:LOOKED_AT]) / self.std_C[:LOOKED_AT]

    def __call__(self, x_BNC: torch.Tensor) -> torch.Tensor:
        """(B,) where each image stands in the row of all splits' images, of standardised (B, N, C) tokens. Raises
        StoreError where one is none of the store's."""
        token_BL = x_BNC[:, self._middle, :LOOKED_AT].float()
        image_B = torch.cdist(token_BL, self._known_IL).argmin(1)
        if (token_BL - self._known_IL[image_B]).abs().max() > SAME:
            raise StoreError(f"{self._store.folder}: has no image of these tokens")
        return image_B

    def standardised(self, raw: torch.Tensor) -> torch.Tensor:
        return (raw.float() - self.mean_C) / self.std_C

    def raw(self, x_BNC: torch.Tensor) -> torch.Tensor:
        return x_BNC.float() * self.std_C + self.mean_C
