"""What the encoder's remaining blocks make of all original tokens of an image: computed once a store."""

# I images of a split, M = k*k cells, C channels, E channels of the embedding

from collections.abc import Iterator

import torch

from toconv import grid
from toconv.code_version import within
from toconv.settings import EncoderSettings
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived
from toconv.tokens.encoders import load_tail

COMPUTED_BY = ("grid.py", *within("tokens", "batches", "encoder_models", "encoders", "last_layer", "stored"))


def embeddings(images: Batches, encoder: EncoderSettings) -> torch.Tensor:
    """(I, E) the images' pooled embeddings, on the CPU."""

    def compute() -> dict[str, torch.Tensor]:
        tail = load_tail(encoder, images.device)
        return {"values": torch.cat([tail(*inputs).cpu() for inputs in _inputs(images)])}

    values: torch.Tensor = derived(images.store, f"embeddings-{images.split}", COMPUTED_BY, compute)["values"]
    return values


def cells(images: Batches, encoder: EncoderSettings, k: int) -> torch.Tensor:
    """(I, M, C) the tokens of the last layer, averaged in each of k×k cells, in fp16 on the CPU."""

    def compute() -> dict[str, torch.Tensor]:
        tail = load_tail(encoder, images.device)
        pooled = (grid.pool(tail.last_layer(*inputs)[1], k).half().cpu() for inputs in _inputs(images))
        return {"values": torch.cat(list(pooled))}

    values: torch.Tensor = derived(images.store, f"last-layer-{images.split}-k{k}", COMPUTED_BY, compute)["values"]
    return values


def _inputs(images: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Raw tokens (B, N, C) and prefix tokens (B, P, C) of each batch, as the encoder's blocks take them."""
    prefix_IPC = images.store.class_tokens(images.split)
    batches = torch.arange(images.images).split(images.batch_size)
    for indices, raw_BNC in zip(batches, images.raw(batches), strict=True):
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            yield raw_BNC.float(), prefix_IPC[indices].to(images.device)
