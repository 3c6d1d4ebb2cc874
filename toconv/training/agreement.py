"""A third loss: what the encoder's own remaining blocks, frozen, make of compressed tokens and of all original ones.

Gradients pass through those blocks to the compressed tokens. What comes of the originals is computed once a store."""

# B batch, M = k*k compressed tokens, C channels, E channels of the embedding

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from toconv import grid
from toconv.settings import EncoderSettings
from toconv.tokens.batches import Batches
from toconv.tokens.encoders import load_tail
from toconv.tokens.last_layer import cells, embeddings


class AgreementLoss:
    """Of compressed tokens of training images. `of` names what is compared: the pooled `embedding` (made from the class
    token, where the encoder pools that), the `cells` (each compressed token in the last layer with the mean of the
    original ones in its cell), or `both`. `sizes`: every k that they may have."""

    def __init__(self, images: Batches, encoder: EncoderSettings, sizes: Sequence[int], of: str) -> None:
        store, self._tail = images.store, load_tail(encoder, images.device)
        self._mean_C, self._std_C = (values.to(images.device) for values in (store.mean_C, store.std_C))
        self._prefix_IPC = store.class_tokens(images.split)
        self._embedding_IE = None if of == "cells" else embeddings(images, encoder)
        self._cells_IMC = {} if of == "embedding" else {k: cells(images, encoder, k) for k in sizes}

    def __call__(self, z_BMC: torch.Tensor, images_B: torch.Tensor) -> torch.Tensor:
        """1 − cosine, mean over the images `images_B` and over cells; the mean of the two where both are compared."""
        raw_BMC = z_BMC.float() * self._std_C + self._mean_C
        prefix_BPC = self._prefix_IPC[images_B].to(z_BMC.device, non_blocking=True)
        with torch.autocast(z_BMC.device.type, enabled=False):
            cells_IMC = self._cells_IMC.get(grid.side(z_BMC))
            if cells_IMC is None:
                embedding_BE, last_BMC = self._tail(raw_BMC, prefix_BPC), raw_BMC
            else:
                embedding_BE, last_BMC = self._tail.last_layer(raw_BMC, prefix_BPC)
            compared = [(embedding_BE, self._embedding_IE), (last_BMC, cells_IMC)]
            apart = [1 - _cosine(ours, theirs, images_B) for ours, theirs in compared if theirs is not None]
        return torch.stack(apart).mean()


def _cosine(ours: torch.Tensor, theirs_I: torch.Tensor, images_B: torch.Tensor) -> torch.Tensor:
    """Mean over images, and over cells."""
    theirs_B = theirs_I[images_B].to(ours.device, ours.dtype, non_blocking=True)
    return F.cosine_similarity(ours, theirs_B, dim=-1).mean()
