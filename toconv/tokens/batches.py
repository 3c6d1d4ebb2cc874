"""Token store → standardised batches on the device of the training."""

# B batch, N tokens of the grid, C channels

from __future__ import annotations

from collections.abc import Iterator

import torch

from toconv.tokens.store import TokenStore


class Batches:
    """One split of a store as (B, N, C) float32 batches, each channel standardised on the training split."""

    def __init__(self, store: TokenStore, split: str, batch_size: int, device: torch.device) -> None:
        self.store, self.split, self.batch_size, self.device = store, split, batch_size, device
        self.images = store.count(split)
        self._mean_C = store.mean_C.to(device)
        self._scale_C = store.std_C.to(device).reciprocal()
        self._shift_C = -self._mean_C * self._scale_C

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def shuffled(self, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Every image once, in an order drawn from `generator`; the last batch may be smaller."""
        return self._read(torch.randperm(self.images, generator=generator))

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Every image once, in the store's order."""
        return self._read(torch.arange(self.images))

    def _read(self, order: torch.Tensor) -> Iterator[torch.Tensor]:
        for indices in order.split(self.batch_size):
            x_BNC = self.store.read(self.split, indices)
            if self.device.type == "cuda":
                x_BNC = x_BNC.pin_memory().to(self.device, non_blocking=True)
            yield torch.addcmul(self._shift_C, x_BNC.float(), self._scale_C)
