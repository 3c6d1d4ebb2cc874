"""Training-free compressors: what a trained one must beat at the same k."""

# B batch, N = g*g, M = k*k, C channels, D = s*s*C channels of a block of s×s tokens, T blocks,
# W trial directions

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from toconv import grid

Map = Callable[[torch.Tensor], torch.Tensor]
MIXES = (0.25, 0.5, 0.75)
OVERSAMPLING, ITERATIONS, SEED = 32, 6, 0
MOST_NUMBERS = 2**26  # of the blocks that PCA is fitted on: 256 MB
LARGEST_GRAM = 4096  # channels of a block, up to which PCA works on their covariance


class Images(Protocol):
    """Standardised (B, N, C) batches of so many images, as often as they are asked for."""

    images: int

    def __iter__(self) -> Iterator[torch.Tensor]: ...


@dataclass(frozen=True)
class Baseline:
    """Standardised (B, N, C) tokens → (B, M, C) → (B, N, C)."""

    compress: Map
    decompress: Map


def fit_baselines(train: Images, g: int, k: int) -> Iterator[tuple[str, Baseline]]:
    """Each baseline at k with its name, fitted when its turn comes; `train` gives the training tokens.

    All but `pca` decode by bilinear up-sampling: for `strided` too it was better than the nearest cell's
    token at every k tried (validation FVU 0.44 against 0.61 at k = 6).
    """
    up = partial(grid.upsample, g=g)
    yield "random", Baseline(partial(_random, k=k), up)
    yield "strided", Baseline(partial(grid.strided, k=k), up)
    yield "pool", Baseline(partial(grid.pool, k=k), up)
    yield "pool_bilinear", Baseline(partial(grid.resize, side=k), up)
    yield "pool_rescaled", fit_pool_rescaled(train, g, k)
    yield "pca", fit_pca(train, g, k)
    for share in MIXES:
        yield f"mixing_{share:g}", Baseline(partial(_mixing, k=k, share=share), up)


def _random(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """A token drawn from each cell, by the same draw for every image."""
    generator = torch.Generator().manual_seed(SEED)
    positions_1N1 = torch.arange(x_BNC.shape[1])[None, :, None]
    index_M = grid.random_in_cell(positions_1N1, k, torch.arange(k * k)[None], generator).flatten()
    return x_BNC[:, index_M.to(x_BNC.device)]


def _mixing(x_BNC: torch.Tensor, k: int, share: float) -> torch.Tensor:
    """The mixing curve share·strided + (1 − share)·pooled."""
    return torch.lerp(grid.pool(x_BNC, k), grid.strided(x_BNC, k), share)


def fit_pool_rescaled(train: Images, g: int, k: int) -> Baseline:
    """Average pooling with each channel brought to the originals' variance, which is 1."""
    count, sums_C, squares_C = train.images * k * k, 0.0, 0.0
    for x_BNC in train:
        pooled_TC = grid.pool(x_BNC, k).flatten(0, 1).double()
        sums_C, squares_C = sums_C + pooled_TC.sum(0), squares_C + pooled_TC.square().sum(0)
    std_C = (squares_C / count - (sums_C / count) ** 2).clamp_min(1e-12).sqrt().float()
    return Baseline(lambda x_BNC: grid.pool(x_BNC, k) / std_C, lambda z_BMC: grid.upsample(z_BMC * std_C, g))


def fit_pca(train: Images, g: int, k: int) -> Baseline:
    """Per-block PCA s²·C → C, s = ⌈g/k⌉: the best linear code of non-overlapping blocks (`grid.blocks`).

    The code is put into token space, which leaves distortion as it is: rotated towards the pooled tokens
    (orthogonal Procrustes), and divided by s, so that a block of s² equal tokens gives a token of its size.
    """
    blocks_TD = _sample_blocks(train, k)
    s = -(-g // k)
    channels = blocks_TD.shape[1] // s**2
    mean_D = blocks_TD.mean(0)
    pooled_TC = blocks_TD.unflatten(1, (s * s, channels)).mean(1)
    shift_C = pooled_TC.mean(0)
    centred_TD = blocks_TD.sub_(mean_D)
    basis_DC = _principal(centred_TD, channels)
    u, _, vh = torch.linalg.svd((centred_TD @ basis_DC).T @ (pooled_TC - shift_C))
    basis_DC = basis_DC @ (u @ vh)

    def compress(x_BNC: torch.Tensor) -> torch.Tensor:
        return (grid.blocks(x_BNC, k) - mean_D) @ basis_DC / s + shift_C

    def decompress(z_BMC: torch.Tensor) -> torch.Tensor:
        return grid.unblocks((z_BMC - shift_C) * s @ basis_DC.T + mean_D, g)

    return Baseline(compress, decompress)


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
