"""A linear code of blocks of tokens that do not overlap, and its decoder."""

# B batch, N = g*g, M = k*k, C channels, P = s*s tokens of a block, D = P*C channels of a block, E = 9*C

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid

NINE = 9  # cells of `grid.neighbours`


class LinearCode(nn.Module):
    """A linear code P·C → C, P = ⌈g/k⌉², as buffers: no training moves it (`grid.blocks`). Products run as autocast has
    it, all else in fp32, also where the module around it was cast. The code lies in token space, which leaves
    distortion as it is: rotated towards the pooled tokens (orthogonal Procrustes), and divided by ⌈g/k⌉, so that a
    block of equal tokens gives a token of its size.

    `completed`: what the code does not hold of a block comes from its neighbours. The blocks' means, which the code
    knows, are up-sampled, and what the code says otherwise is added: y = u + decode(z − compress(u)), so that
    compress(y) = z stays true."""

    def __init__(self, channels: int, g: int, k: int, completed: bool = False) -> None:
        super().__init__()
        self.g, self.k, self.s, self.completed = g, k, -(-g // k), completed
        width = self.s**2 * channels
        self.register_buffer("weight_CD", torch.zeros(channels, width))
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("shift_C", torch.zeros(channels))

    def compress(self, x_BNC: torch.Tensor) -> torch.Tensor:
        weight_CD, mean_D, shift_C = (x.float() for x in self.buffers())
        return F.linear(grid.blocks(x_BNC.float(), self.k) - mean_D, weight_CD).float() + shift_C

    def decompress(self, z_BMC: torch.Tensor, plus_C: torch.Tensor | None = None) -> torch.Tensor:
        """With `plus_C`, if given, added to every token."""
        weight_CD, mean_D, shift_C = (x.float() for x in self.buffers())
        z_BMC, plus_PC = z_BMC.float(), mean_D.unflatten(0, (self.s**2, -1))
        start_BMC, start_BNC = shift_C, None
        if self.completed:
            means_CC = weight_CD.unflatten(1, (self.s**2, -1)).mean(1) * self.s**2
            means_BMC = ((z_BMC - shift_C) @ means_CC).float() + plus_PC.mean(0)
            start_BNC = grid.upsample(means_BMC, self.g)
            start_BMC, plus_PC = self._compress_upsampled(means_BMC, start_BNC), torch.zeros_like(plus_PC)
        if plus_C is not None:
            plus_PC = plus_PC + plus_C.float()
        rest_BMD = ((z_BMC - start_BMC) * self.s**2) @ weight_CD
        rest_BNC = grid.unblocks(rest_BMD.float() + plus_PC.flatten(), self.g)
        return rest_BNC if start_BNC is None else start_BNC + rest_BNC

    def _compress_upsampled(self, means_BMC: torch.Tensor, upsampled_BNC: torch.Tensor) -> torch.Tensor:
        """`compress` of means up-sampled. Where blocks do not overlap, an up-sampled block is a mix of nine means, and
        its code one product with these, which is less than one with its P tokens."""
        if self.s * self.k != self.g or self.s**2 <= NINE:
            return self.compress(upsampled_BNC)
        weight_CD, mean_D, shift_C = (x.float() for x in self.buffers())
        nine = torch.eye(NINE, device=means_BMC.device)[None]  # each of 3×3 tokens by itself
        middle_D = grid.blocks(grid.upsample(nine, 3 * self.s), 3)[0, NINE // 2]
        mix_P9 = middle_D.unflatten(0, (self.s**2, NINE))
        weight_CE = (mix_P9.T @ weight_CD.unflatten(1, (self.s**2, -1))).flatten(1)
        return F.linear(grid.neighbours(means_BMC), weight_CE).float() + shift_C - (weight_CD @ mean_D).float()


def code_at_start(init: str, channels: int, g: int, k: int) -> LinearCode | None:
    """The code that `model.compressor.init` names, still empty; None for `pool`."""
    return None if init == "pool" else LinearCode(channels, g, k, completed=init == "linear")
