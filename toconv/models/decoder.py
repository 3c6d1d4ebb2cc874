"""k×k tokens → g×g tokens. Both decoders start exactly at bilinear up-sampling, or at the linear code's decoding."""

# B batch, N = g*g, M = k*k, C channels of a token, W channels inside the branch

import itertools
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid
from toconv.models.blocks import ConvBlock, Up, attention, zero_linear
from toconv.models.linear_code import LinearCode, code_at_start
from toconv.settings import DecoderSettings


class ConvDecoder(nn.Module):
    """The compressor's mirror."""

    def __init__(self, settings: DecoderSettings, channels: int, grid_size: int, k: int, init: str) -> None:
        super().__init__()
        self.start, width = _start(channels, grid_size, k, init), settings.width
        sides = [grid_size, *grid.stages(grid_size, k)]
        self.branch = nn.Sequential(
            nn.Linear(channels, width),
            *(ConvBlock(width) for _ in range(settings.blocks)),
            *(Up(small, side, width) for side, small in reversed(list(itertools.pairwise(sides)))),
            zero_linear(width, channels),
        )

    def forward(self, z_BMC: torch.Tensor) -> torch.Tensor:
        return _added(self.start, z_BMC, self.branch, z_BMC)


class AttentionDecoder(nn.Module):
    """Every original position asks the compressed tokens, each of which says where it stands."""

    def __init__(self, settings: DecoderSettings, channels: int, grid_size: int, k: int, init: str) -> None:
        super().__init__()
        self.start, self.heads, width = _start(channels, grid_size, k, init), settings.heads, settings.width
        self.asks_NW = nn.Parameter(torch.randn(grid_size**2, width) * width**-0.5)
        self.places_MW = nn.Parameter(torch.randn(k**2, width) * width**-0.5)
        self.read = nn.Linear(channels, width)
        self.blocks = nn.Sequential(*(ConvBlock(width) for _ in range(settings.blocks)))
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), zero_linear(2 * width, channels)
        )

    def forward(self, z_BMC: torch.Tensor) -> torch.Tensor:
        memory_BMW = self.norm(self.blocks(self.read(z_BMC) + self.places_MW))
        query_BNW = self.query(self.asks_NW).expand(len(z_BMC), -1, -1)
        key_BMW, value_BMW = self.key_value(memory_BMW).chunk(2, -1)
        answer_BNW = attention(query_BNW, key_BMW, value_BMW, self.heads)
        return _added(self.start, z_BMC, self.mlp, answer_BNW + self.asks_NW)


class Upsampling(nn.Module):
    """The decoder of average pooling."""

    def __init__(self, grid_size: int) -> None:
        super().__init__()
        self.grid_size = grid_size

    def decompress(self, z_BMC: torch.Tensor, plus_C: torch.Tensor | float = 0.0) -> torch.Tensor:
        """With `plus_C` added to every token: weights of up-sampling sum to 1, and there are fewer tokens before it."""
        return grid.upsample(z_BMC + plus_C, self.grid_size)


def _added(start: LinearCode | Upsampling, z_BMC: torch.Tensor, branch: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """The start's tokens and the branch's; the bias of its last layer, a linear one, goes with the start, which spares
    passes over (B, N, C)."""
    hidden_BNW, last = branch[:-1](x), cast(nn.Linear, branch[-1])
    return start.decompress(z_BMC, last.bias) + F.linear(hidden_BNW, last.weight)


def _start(channels: int, grid_size: int, k: int, init: str) -> LinearCode | Upsampling:
    return code_at_start(init, channels, grid_size, k) or Upsampling(grid_size)
