"""The only home of token-grid arithmetic.

Cell i of k along a side of g covers rows floor(i*g/k) to ceil((i+1)*g/k) - 1: the windows of adaptive average pooling,
which overlap where k does not divide g. A compressed token's receptive field is its cell. Indices are computed on the
tokens' own device, so that nothing here waits for a copy."""

# B batch, N = g*g original tokens, M = k*k compressed tokens (both row-major), C channels, h w sides,
# S = s*k rows, s = ceil(g/k), D = s*s*C channels of a block of s×s tokens

from math import isqrt
from typing import TypeVar

import torch
import torch.nn.functional as F

Rows = TypeVar("Rows", int, torch.Tensor)


def window(i: Rows, g: int, k: int) -> tuple[Rows, Rows]:
    """First row of cell i and the row after its last, for one i or a tensor of them."""
    return i * g // k, -(-(i + 1) * g // k)


def side(x_BNC: torch.Tensor) -> int:
    """Tokens along one side of a square grid."""
    return isqrt(x_BNC.shape[1])


def to_map(x_BNC: torch.Tensor) -> torch.Tensor:
    """(B, N, C) → (B, C, g, g), a view in channels-last order."""
    b, _, c = x_BNC.shape
    return x_BNC.view(b, side(x_BNC), side(x_BNC), c).permute(0, 3, 1, 2)


def to_tokens(x_BChw: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) → (B, h*w, C)."""
    return x_BChw.permute(0, 2, 3, 1).flatten(1, 2)


def pool(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """Adaptive average pooling to k×k tokens."""
    return to_tokens(F.adaptive_avg_pool2d(to_map(x_BNC), k))


def resize(x_BNC: torch.Tensor, side: int) -> torch.Tensor:
    """Bilinear resampling to side×side tokens."""
    return to_tokens(F.interpolate(to_map(x_BNC), (side, side), mode="bilinear", align_corners=False))


def upsample(z_BMC: torch.Tensor, g: int) -> torch.Tensor:
    """Bilinear up-sampling to g×g tokens."""
    return resize(z_BMC, g)


def nearest(z_BMC: torch.Tensor, g: int) -> torch.Tensor:
    """Every position of the g×g grid gets the token of the cell that holds its centre."""
    return z_BMC[:, _square(_holding(isqrt(z_BMC.shape[1]), g, z_BMC.device), isqrt(z_BMC.shape[1]))]


def strided(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """The original token at the centre of each cell, the later one of two. (B, M, C)."""
    g = isqrt(x_BNC.shape[1])
    first_k, end_k = window(torch.arange(k, device=x_BNC.device), g, k)
    return x_BNC[:, _square((first_k + end_k) // 2, g)]


def draw_cells(images: int, k: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(B, S) cells of each image, S = min(count, k²): every cell once, or `count` drawn with replacement."""
    if count >= k * k:
        return torch.arange(k * k, device=generator.device).expand(images, -1)
    return torch.randint(k * k, (images, count), generator=generator, device=generator.device)


def random_in_cell(x_BNC: torch.Tensor, k: int, cells_BS: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """For each asked cell of each image one original token, uniform over the cell's window. (B, S, C)."""
    g = isqrt(x_BNC.shape[1])
    u_2BS = torch.rand(2, *cells_BS.shape, generator=generator, device=x_BNC.device)
    row_BS, column_BS = (
        _within(window(i, g, k), u_BS) for i, u_BS in zip((cells_BS // k, cells_BS % k), u_2BS, strict=True)
    )
    return take(x_BNC, row_BS * g + column_BS)


def random_lattice(x_BNC: torch.Tensor, k: int, generator: torch.Generator) -> torch.Tensor:
    """One k×k sub-lattice of each image, spaced as the cells are, at a random phase. (B, M, C)."""
    g = side(x_BNC)
    first_k, _ = window(torch.arange(k, device=x_BNC.device), g, k)
    phase_2B = torch.randint(g // k, (2, len(x_BNC)), generator=generator, device=x_BNC.device)
    row_Bk, column_Bk = (first_k + phase_B[:, None] for phase_B in phase_2B)
    return take(x_BNC, (row_Bk[:, :, None] * g + column_Bk[:, None, :]).flatten(1))


def take(x_BNC: torch.Tensor, index_BS: torch.Tensor) -> torch.Tensor:
    """The tokens at each image's own indices. (B, S, C)."""
    b, n, _ = x_BNC.shape
    rows_BS = index_BS + n * torch.arange(b, device=index_BS.device)[:, None]
    return x_BNC.flatten(0, 1).index_select(0, rows_BS.flatten()).unflatten(0, index_BS.shape)


def coverage(g: int, k: int) -> torch.Tensor:
    """(N,) weights with which a sum over tokens is the mean over cells of the mean over each cell's window. Uniform 1/N
    where k divides g; elsewhere tokens that two windows share count in both."""
    first_k, end_k = window(torch.arange(k, device="cpu"), g, k)
    rows = torch.arange(g, device="cpu")
    inside_kg = (rows >= first_k[:, None]) & (rows < end_k[:, None])
    side_g = (inside_kg.double() / (end_k - first_k)[:, None]).mean(0)
    return torch.outer(side_g, side_g).flatten().float()


def stages(g: int, k: int) -> list[int]:
    """Sides of the grid on its way from g down to k: 24 → [8, 4], 24 → [12, 6], 24 → [12, 7], 24 → [16]. Where k
    divides g the strides are the prime factors of g/k, the largest first. Elsewhere the grid is halved while it stays
    above k, and the last step resamples by area."""
    sides, side = [], g
    if g % k == 0:
        for stride in sorted(_prime_factors(g // k), reverse=True):
            side //= stride
            sides.append(side)
        return sides
    while side % 2 == 0 and side // 2 > k:
        side //= 2
        sides.append(side)
    return [*sides, k]


def space_to_depth(x_BNC: torch.Tensor, stride: int) -> torch.Tensor:
    """(B, side², C) → (B, (side/stride)², stride²·C): the tokens of each block, side by side."""
    b, n, c = x_BNC.shape
    small = isqrt(n) // stride
    parts = x_BNC.reshape(b, small, stride, small, stride, c).transpose(2, 3)
    return parts.reshape(b, small * small, stride * stride * c)


def depth_to_space(x_BMD: torch.Tensor, stride: int) -> torch.Tensor:
    """The inverse of `space_to_depth`."""
    b, m, d = x_BMD.shape
    small, c = isqrt(m), d // stride**2
    parts = x_BMD.reshape(b, small, small, stride, stride, c).transpose(2, 3)
    return parts.reshape(b, m * stride * stride, c)


def neighbours(x_BMC: torch.Tensor) -> torch.Tensor:
    """(B, M, 9·C): the tokens of the 3×3 cells around each cell, side by side; beyond the edge the nearest cell stands
    again, as in bilinear up-sampling."""
    k = side(x_BMC)
    x = x_BMC.unflatten(1, (k, k))
    for along in (1, 2):
        x = torch.cat([x.narrow(along, 0, 1), x, x.narrow(along, k - 1, 1)], along)
    return torch.cat([x[:, i : i + k, j : j + k] for i in range(3) for j in range(3)], -1).flatten(1, 2)


def blocks(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """(B, N, C) → (B, M, D): k×k blocks of s×s tokens each, s = ⌈g/k⌉, that do not overlap. Where k does not divide g,
    tokens are first repeated (nearest) up to s·k a side."""
    g = isqrt(x_BNC.shape[1])
    s = -(-g // k)
    if s * k != g:
        x_BNC = x_BNC[:, _square(_holding(g, s * k, x_BNC.device), g)]
    return space_to_depth(x_BNC, s)


def unblocks(x_BMD: torch.Tensor, g: int) -> torch.Tensor:
    """The inverse of `blocks`: (B, M, D) → (B, N, C), the mean over repeated tokens."""
    k = isqrt(x_BMD.shape[1])
    s = -(-g // k)
    y = depth_to_space(x_BMD, s)
    if s * k == g:
        return y
    source_S = _holding(g, s * k, y.device)
    copies_gS = (torch.arange(g, device=y.device)[:, None] == source_S).to(y.dtype)
    mean_gS = copies_gS / copies_gS.sum(1, keepdim=True)
    y_BSSC = y.unflatten(1, (s * k, s * k))
    return torch.einsum("gS,hT,bSTc->bghc", mean_gS, mean_gS, y_BSSC).flatten(1, 2)


def _within(rows: tuple[torch.Tensor, torch.Tensor], u: torch.Tensor) -> torch.Tensor:
    """The row at fraction u in [0, 1) of each window."""
    first, end = rows
    return first + (u * (end - first)).long()


def _holding(k: int, g: int, device: torch.device) -> torch.Tensor:
    """(g,) which of k equal parts of a side holds the centre of each of g rows."""
    return (2 * torch.arange(g, device=device) + 1) * k // (2 * g)


def _square(rows: torch.Tensor, side: int) -> torch.Tensor:
    """Row-major indices, in a side×side grid, of the chosen rows crossed with the same columns."""
    return (rows[:, None] * side + rows).flatten()


def _prime_factors(n: int) -> list[int]:
    factors, p = [], 2
    while n > 1:
        while n % p == 0:
            factors.append(p)
            n //= p
        p += 1
    return factors
