"""The C-Abstractor of Honeybee: convolutional blocks, average pooling, blocks again."""

# B batch, N = g*g, M = k*k, C channels of a token, W channels inside the branch

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid
from toconv.models.blocks import OnGrid, zero_linear
from toconv.models.compressor import ResidualCompressor
from toconv.settings import CHANNELS_PER_GROUP, CompressorSettings

SQUEEZED = 0.25  # share of the channels that are left between a squeeze and its excitation


class Abstractor(ResidualCompressor):
    """Blocks on the g×g grid, adaptive average pooling, as many blocks on the k×k grid, and an MLP of two layers
    (arXiv 2312.06742, section 4.2; three blocks each there). Where the paper's first block changes the number of
    channels, a linear layer does. Squeezes are means over space, so that every token sees the whole image."""

    def __init__(self, channels: int, grid_size: int, settings: CompressorSettings) -> None:
        super().__init__(channels, grid_size, settings)
        width, blocks = settings.width, range(settings.blocks)
        self.branch = nn.Sequential(
            nn.Linear(channels, width),
            *(RegNetBlock(width) for _ in blocks),
            OnGrid(grid.pool, self.k),
            *(RegNetBlock(width) for _ in blocks),
            nn.Linear(width, width),
            nn.SiLU(),
            zero_linear(width, channels),
        )


class RegNetBlock(nn.Module):
    """RegNet's residual block with squeeze and excitation (arXiv 2003.13678, 1709.01507), normalised per token, as
    Honeybee has it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        groups, squeezed = width // CHANNELS_PER_GROUP, max(1, round(SQUEEZED * width))
        self.first, self.last = (nn.Linear(width, width, bias=False) for _ in range(2))
        conv = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
        self.conv = conv.to(memory_format=torch.channels_last)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.squeeze, self.excite = nn.Linear(width, squeezed), nn.Linear(squeezed, width)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        y_BNW = F.silu(self.norms[0](self.first(x_BNW)))
        y_BNW = F.silu(self.norms[1](grid.to_tokens(self.conv(grid.to_map(y_BNW)))))
        gate_B1W = torch.sigmoid(self.excite(F.silu(self.squeeze(y_BNW.mean(1, keepdim=True)))))
        return F.silu(x_BNW + self.norms[2](self.last(y_BNW * gate_B1W)))
