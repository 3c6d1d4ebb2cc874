"""The merger of InternVL and Qwen2-VL: a block's tokens side by side, through an MLP."""

# B batch, N = g*g, M = k*k, C channels of a token, W channels inside the branch

import itertools

from torch import nn

from toconv import grid
from toconv.models.blocks import OnGrid, zero_linear
from toconv.models.compressor import ResidualCompressor
from toconv.settings import CompressorSettings


class Merger(ResidualCompressor):
    """Each token is normalised, those of a block are put side by side (pixel shuffle: `grid.blocks`), and an MLP with
    `blocks` hidden layers, one in the papers, makes one token of them (arXiv 2404.16821, section 3.1; 2409.12191,
    section 2.1, whose merger normalises before it merges, as here)."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__(channels, grid_size, settings)
        block, width = (-(-grid_size // self.k)) ** 2 * channels, settings.width
        sizes = [block, *[width] * settings.blocks]
        hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.GELU())]
        self.branch = nn.Sequential(
            nn.LayerNorm(channels), OnGrid(grid.blocks, self.k), *hidden, zero_linear(width, channels)
        )
