"""Training-free compressors: what a trained one must beat at the same k."""

# B batch, N = g*g, M = k*k, C channels, D = s*s*C channels of a block of s×s tokens

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from toconv import grid

Map = Callable[[torch.Tensor], torch.Tensor]
OVERSAMPLING, ITERATIONS, MOST_BLOCKS, SEED = 32, 4, 8192, 0


class Images(Protocol):
    """Standardised (B, N, C) batches of so many images."""

    images: int

    def __iter__(self) -> Iterator[torch.Tensor]: ...


@dataclass(frozen=True)
class Baseline:
    """Standardised (B, N, C) tokens → (B, M, C) → (B, N, C)."""

    compress: Map
    decompress: Map


def fit_baselines(train: Images, g: int, k: int) -> Iterator[tuple[str, Baseline]]:
    """Each baseline at k with its name, fitted when its turn comes; `train` gives the training tokens."""
    up = partial(grid.upsample, g=g)
    yield "pool", Baseline(partial(grid.pool, k=k), up)
    yield "strided", Baseline(partial(grid.strided, k=k), partial(grid.nearest, g=g))
    yield "pool_bilinear", Baseline(partial(grid.resize, side=k), up)
    yield "pca", fit_pca(train, g, k)


def fit_pca(train: Images, g: int, k: int) -> Baseline:
    """Per-block PCA s²·C → C, s = ⌈g/k⌉: the best linear code of non-overlapping blocks.

    Where k does not divide g the grid is first resized to s·k, and back after decoding. The components
    are found by randomised subspace iteration (Halko et al., arXiv 0909.4061) on up to MOST_BLOCKS blocks.
    The code is rotated towards the pooled tokens (orthogonal Procrustes) and scaled by 1/s, as a mean over
    the block is, which leaves distortion as it is.
    """
    s = -(-g // k)
    blocks_TD = _sample_blocks(train, s, k)
    channels = blocks_TD.shape[1] // s**2
    mean_D = blocks_TD.mean(0)
    centred_TD = blocks_TD - mean_D
    basis_DC = _principal(centred_TD, channels)
    pooled_TC = blocks_TD.unflatten(1, (s * s, channels)).mean(1)
    u, _, vh = torch.linalg.svd((centred_TD @ basis_DC).T @ (pooled_TC - pooled_TC.mean(0)))
    code_DC, shift_C = basis_DC @ (u @ vh), pooled_TC.mean(0)

    def compress(x_BNC: torch.Tensor) -> torch.Tensor:
        fitted = x_BNC if s * k == g else grid.resize(x_BNC, s * k)
        return (grid.space_to_depth(fitted, s) - mean_D) @ code_DC / s + shift_C

    def decompress(z_BMC: torch.Tensor) -> torch.Tensor:
        y = grid.depth_to_space(s * (z_BMC - shift_C) @ code_DC.T + mean_D, s)
        return y if s * k == g else grid.resize(y, g)

    return Baseline(compress, decompress)


def _sample_blocks(train: Images, s: int, k: int) -> torch.Tensor:
    """(T, D) blocks of the training tokens, at most about MOST_BLOCKS, the same share of every batch."""
    generator = torch.Generator().manual_seed(SEED)
    share, kept = min(1.0, MOST_BLOCKS / (train.images * k * k)), []
    for x_BNC in train:
        fitted = x_BNC if x_BNC.shape[1] == (s * k) ** 2 else grid.resize(x_BNC, s * k)
        blocks_TD = grid.space_to_depth(fitted, s).flatten(0, 1)
        drawn = torch.randperm(len(blocks_TD), generator=generator)[: math.ceil(share * len(blocks_TD))]
        kept.append(blocks_TD[drawn.to(blocks_TD.device)])
    return torch.cat(kept)


def _principal(x_TD: torch.Tensor, count: int) -> torch.Tensor:
    """(D, count) orthonormal directions of the largest variance; zero columns where there are fewer."""
    rank = min(count, *x_TD.shape)
    generator = torch.Generator().manual_seed(SEED)
    width = min(rank + OVERSAMPLING, *x_TD.shape)
    q_DW = torch.randn(x_TD.shape[1], width, generator=generator).to(x_TD.device)
    for _ in range(ITERATIONS):
        q_DW = torch.linalg.qr(x_TD.T @ (x_TD @ q_DW)).Q
    _, _, vh = torch.linalg.svd(x_TD @ q_DW, full_matrices=False)
    basis = q_DW @ vh[:rank].T
    return torch.nn.functional.pad(basis, (0, count - rank))
