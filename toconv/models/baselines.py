"""Training-free compressors: what a trained one must beat at the same k."""

# B batch, N = g*g, M = k*k, C channels, T compressed tokens

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from toconv import grid
from toconv.models.frequencies import from_low_frequencies, low_frequencies
from toconv.models.linear_code import LinearCode
from toconv.models.linear_fit import LinearCodes
from toconv.models.protocols import Images, TokenMap
from toconv.models.token_sets import Coded, SetCode, keep_diverse, merge_similar

MIXES = (0.25, 0.5, 0.75)
SEED = 0


@dataclass(frozen=True)
class Baseline:
    """Standardised (B, N, C) tokens → (B, M, C) → (B, N, C). `compress` holds so many fitted numbers. Where it gives no
    grid, its tokens are a set, and only what it gave last is restored (`SetCode`)."""

    compress: TokenMap
    decompress: TokenMap
    numbers: int = 0
    gives_grid: bool = True
    is_read: bool = True  # by readers too; points of the mixing curve are there for distortion and perception


@dataclass(frozen=True)
class Fitting:
    """What a baseline may be fitted on."""

    train: Images  # the training tokens
    g: int
    k: int
    codes: LinearCodes  # their `fit_linear_codes`

    def upsampled(self, compress: TokenMap, numbers: int = 0) -> Baseline:
        """Decoded by bilinear up-sampling: for `strided` too it was better than the nearest cell's token at every k
        tried (validation FVU 0.44 against 0.61 at k = 6)."""
        return Baseline(compress, partial(grid.upsample, g=self.g), numbers)


def fit_baselines(fitting: Fitting) -> Iterator[tuple[str, Baseline]]:
    """Each of BASELINES with its name, fitted when its turn comes."""
    return ((name, fit(fitting)) for name, fit in BASELINES.items())


def _random(x_BNC: torch.Tensor, k: int) -> torch.Tensor:
    """A token drawn from each cell, by the same draw for every image."""
    generator = torch.Generator().manual_seed(SEED)
    positions_1N1 = torch.arange(x_BNC.shape[1])[None, :, None]
    index_M = grid.random_in_cell(positions_1N1, k, torch.arange(k * k)[None], generator).flatten()
    return x_BNC[:, index_M.to(x_BNC.device)]


def _mixing(x_BNC: torch.Tensor, k: int, share: float) -> torch.Tensor:
    """The mixing curve share·strided + (1 − share)·pooled."""
    return torch.lerp(grid.pool(x_BNC, k), grid.strided(x_BNC, k), share)


def _fit_mixing(fitting: Fitting, share: float) -> Baseline:
    return replace(fitting.upsampled(partial(_mixing, k=fitting.k, share=share)), is_read=False)


def _coded(code: LinearCode) -> Baseline:
    return Baseline(code.compress, code.decompress, sum(x.numel() for x in code.buffers()))


def _fit_dct(fitting: Fitting) -> Baseline:
    return Baseline(partial(low_frequencies, k=fitting.k), partial(from_low_frequencies, g=fitting.g))


def set_baseline(code: Callable[[torch.Tensor], Coded]) -> Baseline:
    found = SetCode(code)
    return Baseline(found.compress, found.decompress, gives_grid=False)


def fit_pool_rescaled(fitting: Fitting) -> Baseline:
    """Average pooling with each channel brought to the originals' variance, which is 1."""
    k, count = fitting.k, fitting.train.images * fitting.k**2
    sums_C = squares_C = torch.zeros((), dtype=torch.float64)
    for x_BNC in fitting.train:
        pooled_TC = grid.pool(x_BNC, k).flatten(0, 1).double()
        sums_C, squares_C = sums_C + pooled_TC.sum(0), squares_C + pooled_TC.square().sum(0)
    std_C = (squares_C / count - (sums_C / count) ** 2).clamp_min(1e-12).sqrt().float()
    return Baseline(
        lambda x_BNC: grid.pool(x_BNC, k) / std_C, lambda z_BMC: grid.upsample(z_BMC * std_C, fitting.g), std_C.numel()
    )


BASELINES: dict[str, Callable[[Fitting], Baseline]] = {
    "random": lambda f: f.upsampled(partial(_random, k=f.k)),
    "strided": lambda f: f.upsampled(partial(grid.strided, k=f.k)),
    "pool": lambda f: f.upsampled(partial(grid.pool, k=f.k)),
    "pool_bilinear": lambda f: f.upsampled(partial(grid.resize, side=f.k)),
    "pool_rescaled": fit_pool_rescaled,
    "pca": lambda f: _coded(f.codes.pca),
    "linear": lambda f: _coded(f.codes.linear),
    "dct": _fit_dct,
    "tome": lambda f: set_baseline(partial(merge_similar, m=f.k**2)),
    "divprune": lambda f: set_baseline(partial(keep_diverse, m=f.k**2)),
    **{f"mixing_{share:g}": partial(_fit_mixing, share=share) for share in MIXES},
}
