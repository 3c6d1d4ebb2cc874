"""The only home of token-grid arithmetic.

Cell i of k along a side of g covers rows floor(i*g/k) to ceil((i+1)*g/k) - 1: the windows of adaptive
average pooling, which overlap where k does not divide g. A compressed token's receptive field is its cell.
"""

# B batch, N = g*g original tokens, M = k*k compressed tokens (both row-major), C channels, h w sides

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F


def window(i: int, g: int, k: int) -> tuple[int, int]:
    """First row of cell i and the row after its last."""
    return i * g // k, -(-(i + 1) * g // k)


def to_map(x_BNC: torch.Tensor) -> torch.Tensor:
    """(B, N, C) → (B, C, g, g), a view in channels-last order."""
    side = int(x_BNC.shape[1] ** 0.5)
    return x_BNC.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def to_tokens(x_BChw: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) → (B, h*w, C)."""
    return x_BChw.permute(0, 2, 3, 1).flatten(1, 2)


def pool(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """Adaptive average pooling to k×k tokens."""
    return to_tokens(F.adaptive_avg_pool2d(to_map(x_BNC), k))


def upsample(z_BMC: torch.Tensor, g: int) -> torch.Tensor:
    """Bilinear up-sampling to g×g tokens."""
    return resize(z_BMC, g)


def resize(x_BNC: torch.Tensor, side: int) -> torch.Tensor:
    """Bilinear resampling to side×side tokens."""
    return to_tokens(F.interpolate(to_map(x_BNC), (side, side), mode="bilinear", align_corners=False))


@cache
def _centres(g: int, k: int) -> torch.Tensor:
    """(M,) index of the token at the centre of each cell."""
    side = torch.tensor([sum(window(i, g, k)) // 2 for i in range(k)]).clamp(max=g - 1)
    return (side[:, None] * g + side[None, :]).flatten()


def strided(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """The original token at the centre of each cell."""
    g = int(x_BNC.shape[1] ** 0.5)
    return x_BNC[:, _centres(g, k).to(x_BNC.device)]


def nearest(z_BMC: torch.Tensor, g: int) -> torch.Tensor:
    """Every original position gets the token of the cell that holds its centre."""
    k = int(z_BMC.shape[1] ** 0.5)
    return z_BMC[:, cell_of(g, k).to(z_BMC.device)]


@cache
def cell_of(g: int, k: int) -> torch.Tensor:
    """(N,) index of the cell that holds the centre of each original position."""
    side = torch.tensor([(2 * row + 1) * k // (2 * g) for row in range(g)])
    return (side[:, None] * k + side[None, :]).flatten()


@cache
def _windows(g: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(k,) first rows and (k,) heights of the cells."""
    ends = [window(i, g, k) for i in range(k)]
    return torch.tensor([a for a, _ in ends]), torch.tensor([b - a for a, b in ends])


def draw_cells(images: int, k: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(B, S) cells of each image, S = min(count, k²): every cell once, or `count` drawn with replacement."""
    if count >= k * k:
        return torch.arange(k * k, device=generator.device).expand(images, -1)
    return torch.randint(k * k, (images, count), generator=generator, device=generator.device)


def random_in_cell(x_BNC: torch.Tensor, k: int, cells_BS: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """For each asked cell of each image one original token, uniform over the cell's window. (B, S, C)."""
    g = int(x_BNC.shape[1] ** 0.5)
    first_k, height_k = (t.to(x_BNC.device) for t in _windows(g, k))
    u_2BS = torch.rand(2, *cells_BS.shape, generator=generator, device=x_BNC.device)
    row_BS, column_BS = cells_BS // k, cells_BS % k
    rows_BS = first_k[row_BS] + (u_2BS[0] * height_k[row_BS]).long()
    columns_BS = first_k[column_BS] + (u_2BS[1] * height_k[column_BS]).long()
    return take(x_BNC, rows_BS * g + columns_BS)


def take(x_BNC: torch.Tensor, index_BS: torch.Tensor) -> torch.Tensor:
    """The tokens at each image's own indices. (B, S, C)."""
    return x_BNC.gather(1, index_BS.unsqueeze(-1).expand(-1, -1, x_BNC.shape[-1]))


@cache
def coverage(g: int, k: int) -> torch.Tensor:
    """(N,) weights with which a sum over tokens is the mean over cells of the mean over each cell's window.

    Uniform 1/N where k divides g; elsewhere tokens that two windows share count in both.
    """
    side = torch.zeros(g)
    for i in range(k):
        first, end = window(i, g, k)
        side[first:end] += 1 / (k * (end - first))
    return (side[:, None] * side[None, :]).flatten()


def stages(g: int, k: int) -> list[int]:
    """Sides of the grid on its way from g down to k: 24 → [8, 4], 24 → [12, 6], 24 → [12, 7], 24 → [16].

    Where k divides g the strides are the prime factors of g/k, the largest first. Elsewhere the grid is
    halved while it stays at k or above, and the last step resamples by area.
    """
    sides, side = [], g
    if g % k == 0:
        for stride in sorted(_prime_factors(g // k), reverse=True):
            side //= stride
            sides.append(side)
        return sides
    while side % 2 == 0 and side // 2 >= k:
        side //= 2
        sides.append(side)
    return sides if side == k else [*sides, k]


def _prime_factors(n: int) -> list[int]:
    factors, p = [], 2
    while n > 1:
        while n % p == 0:
            factors.append(p)
            n //= p
        p += 1
    return factors


def space_to_depth(x_BNC: torch.Tensor, stride: int) -> torch.Tensor:
    """(B, side², C) → (B, (side/stride)², stride²·C): the tokens of each block, side by side."""
    b, n, c = x_BNC.shape
    small = int(n**0.5) // stride
    blocks = x_BNC.reshape(b, small, stride, small, stride, c).transpose(2, 3)
    return blocks.reshape(b, small * small, stride * stride * c)


def depth_to_space(x_BMD: torch.Tensor, stride: int) -> torch.Tensor:
    """The inverse of `space_to_depth`."""
    b, m, d = x_BMD.shape
    small, c = int(m**0.5), d // stride**2
    blocks = x_BMD.reshape(b, small, small, stride, stride, c).transpose(2, 3)
    return blocks.reshape(b, m * stride * stride, c)
