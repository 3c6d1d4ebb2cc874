"""Where the compressed tokens of training images start. A linear code is fixed, and so is what it makes of an image: it
is computed once a store, and lies in a file that trials share."""

# B batch, I training images, M = k*k compressed tokens, C channels

from __future__ import annotations

import torch
from torch import nn

from toconv import checkpoint
from toconv.code_version import within
from toconv.models.compressor import ResidualCompressor
from toconv.models.families import linear_codes_of
from toconv.models.linear_code import LinearCode
from toconv.models.nested import NestedCompressor
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived

MOST_BYTES = 2**27  # that the starts at all k may take; above it every step computes those of its batch
BATCH = 16  # images that are computed at a time
COMPUTED_BY = ("grid.py", *within("models", "linear_code"), *within("tokens", "batches", "stored"))


def kept_codes(compressor: nn.Module, images: int, channels: int) -> dict[int, LinearCode]:
    """{k: the linear code that the compressor adds to} whose compressed tokens of so many images are kept; {} where it
    adds to none, or they are too many."""
    codes = linear_codes_of(compressor) if isinstance(compressor, ResidualCompressor | NestedCompressor) else {}
    return codes if 4 * images * sum(k**2 for k in codes) * channels <= MOST_BYTES else {}


class Starts:
    """Of a compressor that adds to a linear code, at each k, from the first time that they are asked for."""

    def __init__(self, images: Batches, compressor: nn.Module, bf16: bool) -> None:
        """`bf16`: whether autocast runs the compressor in that."""
        self._codes = kept_codes(compressor, images.images, images.store.width)
        self._images, self._bf16 = images, bf16
        self._known: dict[int, torch.Tensor] = {}

    def at(self, images_B: torch.Tensor, k: int) -> torch.Tensor | None:
        """(B, M, C) of the training images `images_B`; None where a step is to compute them."""
        if k not in self._codes:
            return None
        if k not in self._known:
            self._known[k] = self._shared(k, self._codes[k]).to(self._images.device)
        known_IMC = self._known[k]
        return known_IMC.index_select(0, images_B.to(known_IMC.device, non_blocking=True))

    def forget(self) -> None:
        """To be called where the codes have become others."""
        self._known.clear()

    def _shared(self, k: int, code: LinearCode) -> torch.Tensor:
        """(I, M, C), named by the code, which a training that began elsewhere brings along."""
        name = f"starts-k{k}-{checkpoint.checksum(code.state_dict())[:12]}{'-bf16' if self._bf16 else ''}"
        values: torch.Tensor = derived(
            self._images.store, name, COMPUTED_BY, lambda: {"values": self._computed(k, code)}, mapped=True
        )["values"]
        return values

    @torch.no_grad()
    def _computed(self, k: int, code: LinearCode) -> torch.Tensor:
        """A few at a time, whatever a step's batch is."""
        images, done = Batches(self._images.store, self._images.split, BATCH, self._images.device), 0
        found_IMC = torch.empty(images.images, k**2, images.store.width)
        for x_BNC in images:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bf16):
                found_IMC[done : done + len(x_BNC)] = code.compress(x_BNC)
            done += len(x_BNC)
        return found_IMC
