"""Parts that compressor and decoder share. Tokens are (B, N, C), so that every 1×1 convolution is one GEMM."""

# B batch, N tokens of a square grid, M = k*k queries or cells, C or W channels

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid


class ConvBlock(nn.Module):
    """Residual 3×3 convolution and pointwise layer, normalised per token: a norm over space would make
    the receptive field the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1).to(memory_format=torch.channels_last)  # as `grid.to_map` is
        self.mix = nn.Linear(width, width)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        y_BNW = grid.to_tokens(self.conv(grid.to_map(self.norm(x_BNW))))
        return x_BNW + self.mix(F.gelu(y_BNW))


class Down(nn.Module):
    """From side×side to small×small tokens: a strided convolution, or area resampling where it must be."""

    def __init__(self, side: int, small: int, width: int) -> None:
        super().__init__()
        self.small, self.stride = small, side // small if side % small == 0 else None
        self.linear = nn.Linear(width * (self.stride**2 if self.stride else 1), width)

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        blocks = grid.space_to_depth(x_BNW, self.stride) if self.stride else grid.pool(x_BNW, self.small)
        return F.gelu(self.linear(blocks))


class Up(nn.Module):
    """The mirror of `Down`: from small×small to side×side tokens."""

    def __init__(self, small: int, side: int, width: int) -> None:
        super().__init__()
        self.side, self.stride = side, side // small if side % small == 0 else None
        self.linear = nn.Linear(width, width * (self.stride**2 if self.stride else 1))

    def forward(self, z_BMW: torch.Tensor) -> torch.Tensor:
        y = F.gelu(self.linear(z_BMW))
        return grid.depth_to_space(y, self.stride) if self.stride else grid.resize(y, self.side)


class OnGrid(nn.Module):
    """`grid.pool` or `grid.blocks` to a k×k grid, within a Sequential."""

    def __init__(self, function: Callable[[torch.Tensor, int], torch.Tensor], k: int) -> None:
        super().__init__()
        self.function, self.k = function, k

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        return self.function(x_BNW, self.k)


def attention(query_BMW: torch.Tensor, key_BNW: torch.Tensor, value_BNW: torch.Tensor, heads: int) -> torch.Tensor:
    """softmax(q·kᵀ/√d)·v in each head, d = W/heads (arXiv 1706.03762, eq. 1). (B, M, W)."""
    split = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query_BMW, key_BNW, value_BNW))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts at zero, so that the branch it ends starts as nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
