"""Per-block PCA: the best linear code of blocks of tokens that do not overlap."""

# B batch, N = g*g, M = k*k, C channels, D = s*s*C channels of a block of s×s tokens, T blocks, W trial directions

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid

OVERSAMPLING, ITERATIONS, SEED = 32, 6, 0
MOST_NUMBERS = 2**26  # of the blocks that PCA is fitted on: 256 MB
LARGEST_GRAM = 4096  # channels of a block, up to which PCA works on their covariance


class Images(Protocol):
    """Standardised (B, N, C) batches of so many images, as often as they are asked for."""

    images: int

    def __iter__(self) -> Iterator[torch.Tensor]: ...


class LinearCode(nn.Module):
    """Per-block PCA s²·C → C, s = ⌈g/k⌉, as buffers: no training moves it (`grid.blocks`). fp32 also under autocast,
    and where the module around it was cast.

    The code lies in token space, which leaves distortion as it is: rotated towards the pooled tokens (orthogonal
    Procrustes), and divided by s, so that a block of s² equal tokens gives a token of its size.
    """

    def __init__(self, channels: int, g: int, k: int) -> None:
        super().__init__()
        self.g, self.k, self.s = g, k, -(-g // k)
        width = self.s**2 * channels
        self.register_buffer("weight_CD", torch.zeros(channels, width))
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("shift_C", torch.zeros(channels))

    def compress(self, x_BNC: torch.Tensor) -> torch.Tensor:
        with _full_precision(x_BNC):
            weight_CD, mean_D, shift_C = (x.float() for x in self.buffers())
            return F.linear(grid.blocks(x_BNC.float(), self.k) - mean_D, weight_CD, shift_C)

    def decompress(self, z_BMC: torch.Tensor) -> torch.Tensor:
        with _full_precision(z_BMC):
            weight_CD, mean_D, shift_C = (x.float() for x in self.buffers())
            return grid.unblocks(F.linear(z_BMC.float() - shift_C, weight_CD.T * self.s**2, mean_D), self.g)


def _full_precision(x: torch.Tensor) -> AbstractContextManager:
    """The meta device, on which shapes and operations are counted, knows no autocast."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def fit_linear_code(train: Images, g: int, k: int) -> LinearCode:
    """Fitted on the training tokens."""
    blocks_TD = _sample_blocks(train, k)
    s = -(-g // k)
    channels = blocks_TD.shape[1] // s**2
    mean_D = blocks_TD.mean(0)
    pooled_TC = blocks_TD.unflatten(1, (s * s, channels)).mean(1)
    shift_C = pooled_TC.mean(0)
    centred_TD = blocks_TD.sub_(mean_D)
    basis_DC = _principal(centred_TD, channels)
    u, _, vh = torch.linalg.svd((centred_TD @ basis_DC).T @ (pooled_TC - shift_C))
    code = LinearCode(channels, g, k).to(blocks_TD.device)
    code.load_state_dict({"weight_CD": (basis_DC @ (u @ vh)).T / s, "mean_D": mean_D, "shift_C": shift_C})
    return code


def _sample_blocks(train: Images, k: int) -> torch.Tensor:
    """(T, D) blocks of the training tokens: all, or a like share of each batch within MOST_NUMBERS."""
    generator, kept = torch.Generator().manual_seed(SEED), []
    for x_BNC in train:
        blocks_TD = grid.blocks(x_BNC, k).flatten(0, 1)
        share = MOST_NUMBERS / (train.images * k * k * blocks_TD.shape[1])
        if share < 1:
            drawn = torch.randperm(len(blocks_TD), generator=generator)[: math.ceil(share * len(blocks_TD))]
            blocks_TD = blocks_TD[drawn.to(blocks_TD.device)]
        kept.append(blocks_TD)
    return torch.cat(kept)


def _principal(x_TD: torch.Tensor, count: int) -> torch.Tensor:
    """(D, count) orthonormal directions of the largest variance; zero columns where there are fewer.

    Randomised subspace iteration (Halko et al., arXiv 0909.4061), on the covariance where that is smaller.
    """
    samples, width = x_TD.shape
    gram_DD = x_TD.T @ x_TD if width <= min(samples, LARGEST_GRAM) else None
    generator = torch.Generator().manual_seed(SEED)
    q_DW = torch.randn(width, min(count + OVERSAMPLING, samples, width), generator=generator).to(x_TD.device)
    for _ in range(ITERATIONS):
        q_DW = torch.linalg.qr(x_TD.T @ (x_TD @ q_DW) if gram_DD is None else gram_DD @ q_DW).Q
    projected_TW = x_TD @ q_DW
    _, vectors_WW = torch.linalg.eigh(projected_TW.T @ projected_TW)  # ascending
    basis = q_DW @ vectors_WW.flip(-1)[:, :count]
    return torch.nn.functional.pad(basis, (0, count - basis.shape[1]))
