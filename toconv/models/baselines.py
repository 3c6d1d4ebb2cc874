"""Training-free compressors: what a trained one must beat at the same k."""

# B batch, N = g*g, M = k*k, C channels, T compressed tokens

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from toconv import grid
from toconv.models.linear_code import Images, LinearCode

Map = Callable[[torch.Tensor], torch.Tensor]
MIXES = (0.25, 0.5, 0.75)
SEED = 0


@dataclass(frozen=True)
class Baseline:
    """Standardised (B, N, C) tokens → (B, M, C) → (B, N, C). `compress` holds so many fitted numbers."""

    compress: Map
    decompress: Map
    numbers: int = 0


def fit_baselines(train: Images, g: int, k: int, code: LinearCode) -> Iterator[tuple[str, Baseline]]:
    """Each baseline at k with its name, fitted when its turn comes; `train` gives the training tokens, `code` is
    their `fit_linear_code`.

    All but `pca` decode by bilinear up-sampling: for `strided` too it was better than the nearest cell's
    token at every k tried (validation FVU 0.44 against 0.61 at k = 6).
    """
    up = partial(grid.upsample, g=g)
    yield "random", Baseline(partial(_random, k=k), up)
    yield "strided", Baseline(partial(grid.strided, k=k), up)
    yield "pool", Baseline(partial(grid.pool, k=k), up)
    yield "pool_bilinear", Baseline(partial(grid.resize, side=k), up)
    yield "pool_rescaled", fit_pool_rescaled(train, g, k)
    yield "pca", Baseline(code.compress, code.decompress, sum(x.numel() for x in code.buffers()))
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
    return Baseline(
        lambda x_BNC: grid.pool(x_BNC, k) / std_C, lambda z_BMC: grid.upsample(z_BMC * std_C, g), std_C.numel())
