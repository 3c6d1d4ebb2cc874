"""The DCT's low frequencies as tokens (Fourier-VLM, arXiv 2508.06038)."""

# B batch, N = g*g tokens, M = k*k low frequencies or tokens, C channels

import math

import torch

from toconv import grid


def cosines(g: int, device: torch.device) -> torch.Tensor:
    """(g, g) the orthonormal DCT-II, a frequency a row: √(2/g)·cos(π·u·(2i + 1)/2g), the row of u = 0 divided by √2."""
    i = torch.arange(g, device=device, dtype=torch.float64)
    basis_gg = math.sqrt(2 / g) * torch.cos(math.pi * i[:, None] * (2 * i + 1) / (2 * g))
    basis_gg[0] /= math.sqrt(2)
    return basis_gg.float()


def low_frequencies(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """(B, M, C): the 2-D DCT of each channel's grid cut to its k×k lowest frequencies, and turned into k×k tokens by
    the inverse DCT of that size. Divided by g/k, so that equal tokens give a token of their size."""
    return _on_both_sides(_shrinking(grid.side(x_BNC), k, x_BNC.device), x_BNC)


def from_low_frequencies(z_BMC: torch.Tensor, g: int) -> torch.Tensor:
    """(B, N, C) with the frequencies of `low_frequencies` and zeros for all higher ones: with it a projection."""
    k = grid.side(z_BMC)
    return _on_both_sides(_shrinking(g, k, z_BMC.device).T * (g / k), z_BMC)


def _shrinking(g: int, k: int, device: torch.device) -> torch.Tensor:
    """(k, g) of one side."""
    return cosines(k, device).T @ cosines(g, device)[:k] * math.sqrt(k / g)


def _on_both_sides(matrix_hg: torch.Tensor, x_BNC: torch.Tensor) -> torch.Tensor:
    g = matrix_hg.shape[1]
    rows_BhgC = (matrix_hg @ x_BNC.unflatten(1, (g, g)).flatten(2)).unflatten(2, (g, -1))
    return (matrix_hg @ rows_BhgC).flatten(1, 2)
