"""g×g tokens → k×k tokens of the same width."""

# B batch, N = g*g, M = k*k, C channels of a token, W channels inside the branch

import itertools

import torch
from torch import nn

from toconv import grid
from toconv.models.blocks import ConvBlock, Down, zero_linear
from toconv.models.linear_code import code_at_start
from toconv.settings import CompressorSettings


class ResidualCompressor(nn.Module):
    """Average pooling, or a linear code, plus a `branch` that starts at zero and is judged by what it adds. The branch
    of every family ends in a linear layer (`zero_linear`), so that it can emit any value that tokens have."""

    branch: nn.Module  # (B, N, C) → (B, M, C), of a family's own

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__()
        self.k = settings.output_grid_size
        self.code = code_at_start(settings.init, channels, grid_size, self.k)

    def forward(self, x_BNC: torch.Tensor, start_BMC: torch.Tensor | None = None) -> torch.Tensor:
        """`start_BMC`: what the code makes of these tokens, where that is known."""
        if start_BMC is None:
            start_BMC = self.code.compress(x_BNC) if self.code else grid.pool(x_BNC, self.k)
        return start_BMC + self.branch(x_BNC)


class Compressor(ResidualCompressor):
    """A convolutional branch: it narrows to W channels, goes down stage by stage (`grid.stages`), and mixes neighbours
    on the k×k grid."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__(channels, grid_size, settings)
        width, sides = settings.width, [grid_size, *grid.stages(grid_size, self.k)]
        self.branch = nn.Sequential(
            nn.Linear(channels, width),
            *(Down(side, small, width) for side, small in itertools.pairwise(sides)),
            *(ConvBlock(width) for _ in range(settings.blocks)),
            nn.LayerNorm(width),
            zero_linear(width, channels),
        )
