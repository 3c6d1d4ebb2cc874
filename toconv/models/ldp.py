"""The lightweight downsample projector of MobileVLM V2."""

# B batch, N tokens of a square grid, C channels of a token, W channels inside the branch

import torch
from torch import nn

from toconv import grid
from toconv.models.blocks import OnGrid, zero_linear
from toconv.models.compressor import ResidualCompressor
from toconv.settings import CompressorSettings


class LightweightProjector(ResidualCompressor):
    """LDPv2: two pointwise layers, average pooling, and a depthwise convolution with a shortcut, `blocks` of these, one
    in the paper (arXiv 2402.03766, section 3.3)."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__(channels, grid_size, settings)
        width = settings.width
        self.branch = nn.Sequential(
            nn.Linear(channels, width),
            nn.GELU(),
            nn.Linear(width, width),
            OnGrid(grid.pool, self.k),
            *(PositionalEncoding(width) for _ in range(settings.blocks)),
            zero_linear(width, channels),
        )


class PositionalEncoding(nn.Module):
    """x + depthwise 3×3 convolution of x: its zeros around the grid tell where a token stands (arXiv 2102.10882)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.conv = conv.to(memory_format=torch.channels_last)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        return x_BNW + grid.to_tokens(self.conv(grid.to_map(x_BNW)))
