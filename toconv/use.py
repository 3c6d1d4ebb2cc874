"""Use: what compressed tokens are worth to the encoder itself, which needs no other model.

Compressed tokens go, beside the image's class token, through the encoder's own remaining blocks, final norm and
projection; `use` is the cosine of the pooled embedding with the one that all g² tokens give.
"""

# B images, N = g*g tokens, M = k*k compressed tokens, C channels, E channels of the embedding

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from filelock import FileLock

from toconv import checkpoint
from toconv.errors import CheckpointError
from toconv.identity import code_version
from toconv.settings import EncoderSettings
from toconv.tokens.batches import Batches
from toconv.tokens.encoder import load_tail

COMPUTED_BY = ("use.py", "tokens/encoder.py")
Map = Callable[[torch.Tensor], torch.Tensor]


class Use:
    """`use` of compressors on one split of held-out images."""

    def __init__(self, images: Batches, encoder: EncoderSettings) -> None:
        """The embeddings of all tokens are computed once a store and kept beside the tokens."""
        self._images, self._tail = images, load_tail(encoder, images.device)
        store = images.store
        self._mean_C, self._std_C = (values.to(images.device) for values in (store.mean_C, store.std_C))
        self._class_IC = store.class_tokens(images.split)
        path = store.derived / f"embeddings-{images.split}-{code_version(COMPUTED_BY)}.pt"
        with FileLock(path.with_suffix(".lock")):
            try:
                self._whole_IE = checkpoint.load(path)["embeddings"]
            except CheckpointError:  # not there, or damaged
                self._whole_IE = torch.cat([e.cpu() for e in self._embeddings(lambda x_BNC: x_BNC)])
                checkpoint.save(path, {"embeddings": self._whole_IE})

    def of(self, compress: Map) -> float:
        """Mean cosine over all images; one host sync."""
        embeddings_IE = torch.cat(list(self._embeddings(compress)))
        return F.cosine_similarity(embeddings_IE, self._whole_IE.to(embeddings_IE.device), dim=-1).mean().item()

    def _embeddings(self, compress: Map) -> Iterator[torch.Tensor]:
        start = 0
        for x_BNC in self._images:
            z_BMC = compress(x_BNC).float()
            class_BC = self._class_IC[start:start + len(x_BNC)].to(x_BNC.device)
            start += len(x_BNC)
            with torch.autocast(x_BNC.device.type, enabled=False):
                embedding_BE = self._tail(z_BMC * self._std_C + self._mean_C, class_BC)
            yield embedding_BE
