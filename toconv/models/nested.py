"""One compressor for several k, after M3: one branch, pooled to the k that is asked for, beside that k's own start."""

# B batch, N = g*g, M = k*k, C channels of a token, W channels inside the branch

from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import torch
from torch import nn

from toconv import grid
from toconv.models.blocks import ConvBlock, zero_linear
from toconv.models.linear_code import LinearCode, code_at_start
from toconv.settings import CompressorSettings


class NestedCompressor(nn.Module):
    """A coarser grid is an average of a finer one (arXiv 2405.17430, section 3: nested scales by average pooling): the
    branch works on the g×g grid, `blocks` blocks of it, is pooled to k×k, and ends in a linear layer that starts at
    zero. All its weights are shared by every k of `grid_sizes`; each k has a start of its own, average pooling or its
    linear code."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__()
        self.k, width = settings.output_grid_size, settings.width
        codes = {str(k): code_at_start(settings.init, channels, grid_size, k) for k in settings.sizes}
        self.codes = nn.ModuleDict({k: code for k, code in codes.items() if code is not None})
        self.branch = nn.Sequential(
            nn.Linear(channels, width),
            *(ConvBlock(width) for _ in range(settings.blocks)),
            nn.LayerNorm(width),
            zero_linear(width, channels),
        )

    def forward(self, x_BNC: torch.Tensor, k: int | None = None, start_BMC: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N, C) → (B, M, C) for a k of `grid_sizes`, else `output_grid_size`. `start_BMC`: what that k's code makes
        of these tokens, where that is known."""
        k = self.k if k is None else k
        if start_BMC is None:
            start_BMC = cast(LinearCode, self.codes[str(k)]).compress(x_BNC) if self.codes else grid.pool(x_BNC, k)
        return start_BMC + self.branch[-1](grid.pool(self.branch[:-1](x_BNC), k))


class NestedDecoder(nn.Module):
    """A decoder for each k, the same that a compressor of that k alone has; the tokens say which by their number."""

    def __init__(self, decoders: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.of_size = nn.ModuleDict({str(k): decoder for k, decoder in decoders.items()})

    def forward(self, z_BMC: torch.Tensor) -> torch.Tensor:
        return self.of_size[str(grid.side(z_BMC))](z_BMC)


def at_size(compressor: nn.Module, k: int) -> Callable[..., torch.Tensor]:
    """The compressor as a map to k×k tokens; one that is not nested has no other k than its own."""
    return partial(compressor, k=k) if isinstance(compressor, NestedCompressor) else compressor
