"""What compressors and baselines are, for whoever fits or measures them."""

# B batch, N = g*g original tokens, C channels

from collections.abc import Callable, Iterator
from typing import Protocol

import torch

TokenMap = Callable[[torch.Tensor], torch.Tensor]  # standardised (B, N, C) → (B, M, C), or back


class Images(Protocol):
    """Standardised (B, N, C) batches of so many images, as often as they are asked for."""

    images: int

    def __iter__(self) -> Iterator[torch.Tensor]: ...
