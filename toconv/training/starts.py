"""Where the compressed tokens of training images start. A linear code is fixed, and so is what it makes of an image: it
is computed once a training, not once an epoch."""

# B batch, I training images, M = k*k compressed tokens, C channels

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from toconv.models.compressor import ResidualCompressor
from toconv.models.families import linear_codes_of
from toconv.models.nested import NestedCompressor
from toconv.tokens.batches import Batches

MOST_BYTES = 2**28  # that the starts at one k may take on the device; above it every step computes those of its batch


class Starts:
    """Of a compressor that adds to a linear code, at each k, the first time that they are asked for."""

    def __init__(
        self, images: Batches, compressor: nn.Module, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        adds = isinstance(compressor, ResidualCompressor | NestedCompressor)
        self._codes = linear_codes_of(compressor) if adds else {}
        self._images, self._autocast, self._known = images, autocast, dict[int, torch.Tensor]()

    def at(self, images_B: torch.Tensor, k: int) -> torch.Tensor | None:
        """(B, M, C) of the training images `images_B`; None where a step is to compute them."""
        if k not in self._codes or 4 * self._images.images * k**2 * self._images.store.width > MOST_BYTES:
            return None
        if k not in self._known:
            self._known[k] = self._computed(k)
        known_IMC = self._known[k]
        return known_IMC.index_select(0, images_B.to(known_IMC.device, non_blocking=True))

    @torch.no_grad()
    def _computed(self, k: int) -> torch.Tensor:
        """In the store's order, so that a training that resumes has the same ones."""
        with self._autocast():
            return torch.cat([self._codes[k].compress(x_BNC) for x_BNC in self._images])
