"""Per-block PCA: the best linear code of blocks of tokens that do not overlap."""

# B batch, N = g*g, M = k*k, C channels, D = s*s*C channels of a block of s×s tokens, T blocks, W trial directions

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid
from toconv.models.protocols import Images

STEPS, SHARE, SEED = 16, 6, 0  # of block Krylov iteration, each with a sixth of the directions that are asked for
NUDGE = 1e-4  # of the largest new direction, at random: well above rounding, which decides where nothing new is left
MOST_NUMBERS = 2**26  # of the blocks that PCA is fitted on: 256 MB


class LinearCode(nn.Module):
    """Per-block PCA s²·C → C, s = ⌈g/k⌉, as buffers: no training moves it (`grid.blocks`). fp32 also under autocast,
    and where the module around it was cast. The code lies in token space, which leaves distortion as it is: rotated
    towards the pooled tokens (orthogonal Procrustes), and divided by s, so that a block of s² equal tokens gives a
    token of its size."""

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

    def decompress(self, z_BMC: torch.Tensor, plus_C: torch.Tensor | None = None) -> torch.Tensor:
        """With `plus_C`, if given, added to every token."""
        with _full_precision(z_BMC):
            weight_CD, mean_D, shift_C = (x.float() for x in self.buffers())
            if plus_C is not None:
                mean_D = mean_D + plus_C.float().repeat(self.s**2)
            return grid.unblocks(F.linear(z_BMC.float() - shift_C, weight_CD.T * self.s**2, mean_D), self.g)


def _full_precision(x: torch.Tensor) -> AbstractContextManager[Any]:
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
    """(D, count) orthonormal directions of the largest variance; zero columns where there are fewer."""
    width = -(-count // SHARE)
    small = min(x_TD.shape) <= 2 * STEPS * width
    basis = _eigenvectors(x_TD, count) if small else _krylov(x_TD, width, count)
    return F.pad(basis, (0, count - basis.shape[1]))


def _eigenvectors(x_TD: torch.Tensor, count: int) -> torch.Tensor:
    """The first right singular vectors of X, from the smaller of XᵀX and XXᵀ."""
    samples, width = x_TD.shape
    if width <= samples:
        return _leading(x_TD.T @ x_TD, count)
    return torch.linalg.qr(x_TD.T @ _leading(x_TD @ x_TD.T, count)).Q


def _leading(gram: torch.Tensor, count: int) -> torch.Tensor:
    """Eigenvectors as columns, those of the largest eigenvalues, by falling eigenvalue."""
    return torch.linalg.eigh(gram).eigenvectors.flip(-1)[:, :count]


def _krylov(x_TD: torch.Tensor, width: int, count: int) -> torch.Tensor:
    """By randomised block Krylov iteration (Musco and Musco, arXiv 1504.05477): the best within the span of Ω, XᵀXΩ,
    (XᵀX)²Ω, … of STEPS·width directions, kept orthonormal as it grows."""
    generator = torch.Generator().manual_seed(SEED)
    basis_DW = x_TD.new_empty(x_TD.shape[1], STEPS * width)
    images_TW = x_TD.new_empty(x_TD.shape[0], STEPS * width)
    random_DW = torch.randn(x_TD.shape[1], width, generator=generator).to(x_TD.device)
    new_DW = random_DW
    for start in range(0, STEPS * width, width):
        found_DW = basis_DW[:, :start]
        for _ in range(2):  # the second time for what rounding left
            new_DW = torch.linalg.qr(new_DW - found_DW @ (found_DW.T @ new_DW)).Q
        basis_DW[:, start : start + width] = new_DW
        images_TW[:, start : start + width] = x_TD @ new_DW
        new_DW = x_TD.T @ images_TW[:, start : start + width]
        new_DW += NUDGE * new_DW.norm(dim=0).amax() / random_DW.norm(dim=0) * random_DW.roll(start + 1, 0)
    return basis_DW @ _leading(images_TW.T @ images_TW, count)
