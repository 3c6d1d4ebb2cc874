"""What can be read at each of g×g places from its compressed cell and the neighbours of that, by ridge."""

# B batch, N = g*g places, M = k*k cells, C channels, D targets of a place, F = 2*C + 1 features of a cell,
# P = s*s places of a cell, s = ⌈g/k⌉, Q folds

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from toconv import grid

MOST_CELLS = 8192  # of the training images, evenly spaced
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # of the mean square of a compressed channel, among which is chosen
UNPENALISED = 1e-6  # the same of the constant, so that a matrix can be factored


@dataclass(frozen=True)
class LocalRidge:
    """Features of a cell: its token, the mean of the 3×3 tokens around it, and a constant; each of the s×s places of a
    cell (`grid.blocks`) has weights of its own."""

    weights_FX: torch.Tensor  # X = P·D
    g: int
    penalty: float  # of PENALTIES

    @classmethod
    def fit(cls, z_IMC: torch.Tensor, targets: Iterable[torch.Tensor], fold_I: torch.Tensor, g: int) -> LocalRidge:
        """`targets`: (B, N, D) batches for all images of `z_IMC`; `fold_I`: which fold an image lies in, 0, 1, …. The
        penalty is the one that leaves least of a cell's mean target in folds that a fit did not see; with one fold, the
        largest."""
        sums, width = _sums(z_IMC, targets, fold_I), z_IMC.shape[-1]
        gram_FF, cross_FX = sums.gram_QFF.sum(0), sums.cross_QFX.sum(0)
        folds = range(len(sums.gram_QFF))
        if len(folds) < 2:
            return cls(_solve(gram_FF, cross_FX, PENALTIES[-1], width), g, PENALTIES[-1])
        left = dict.fromkeys(PENALTIES, 0.0)
        mean_QFD = sums.cross_QFX.unflatten(2, (-1, sums.targets)).mean(2)
        for fold in folds:
            seen_FF, seen_FD = gram_FF - sums.gram_QFF[fold], mean_QFD.sum(0) - mean_QFD[fold]
            for penalty in PENALTIES:
                w_FD = _solve(seen_FF, seen_FD, penalty, width)
                left[penalty] += float((w_FD * (sums.gram_QFF[fold] @ w_FD - 2 * mean_QFD[fold])).sum())
        penalty = min(left, key=lambda p: left[p])
        return cls(_solve(gram_FF, cross_FX, penalty, width), g, penalty)

    def predict(self, z_BMC: torch.Tensor) -> torch.Tensor:
        """(B, N, D)."""
        return grid.unblocks(features(z_BMC) @ self.weights_FX, self.g)


def features(z_BMC: torch.Tensor) -> torch.Tensor:
    """(B, M, F); beyond the grid's edge stand its own tokens."""
    z_BCkk = grid.to_map(z_BMC.float())
    around_BCkk = F.avg_pool2d(F.pad(z_BCkk, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return F.pad(grid.to_tokens(torch.cat([z_BCkk, around_BCkk], 1)), (0, 1), value=1.0)


@dataclass(frozen=True)
class _Sums:
    """Products of a fold's cells."""

    gram_QFF: torch.Tensor
    cross_QFX: torch.Tensor
    targets: int  # D


def _sums(z_IMC: torch.Tensor, targets: Iterable[torch.Tensor], fold_I: torch.Tensor) -> _Sums:
    images, cells, _ = z_IMC.shape
    kept = min(MOST_CELLS, images * cells)
    chosen_T = torch.arange(kept) * (images * cells) // kept
    folds, first = int(fold_I.max()) + 1, 0
    grams, crosses = ([torch.zeros(()) for _ in range(folds)] for _ in range(2))
    for targets_BND in targets:
        end = first + len(targets_BND)
        of_batch_T = chosen_T[(chosen_T >= first * cells) & (chosen_T < end * cells)]
        fold_T, of_batch_T = fold_I[of_batch_T // cells], (of_batch_T - first * cells).to(z_IMC.device)
        x_TF = features(z_IMC[first:end]).flatten(0, 1)[of_batch_T]
        y_TX = grid.blocks(targets_BND.float(), grid.side(z_IMC)).flatten(0, 1)[of_batch_T]
        for fold in fold_T.unique().tolist():
            of_fold_T = (fold_T == fold).to(x_TF.device)
            grams[fold] = grams[fold] + x_TF[of_fold_T].T @ x_TF[of_fold_T]
            crosses[fold] = crosses[fold] + x_TF[of_fold_T].T @ y_TX[of_fold_T]
        first = end
    return _Sums(torch.stack(grams), torch.stack(crosses), targets_BND.shape[-1])


def _solve(gram_FF: torch.Tensor, cross_FX: torch.Tensor, penalty: float, width: int) -> torch.Tensor:
    """In fp64 on small matrices and fp32 on large ones alike: the penalty keeps them well conditioned."""
    count = gram_FF[-1, -1]
    square = (gram_FF.diagonal()[:width].mean() / count).clamp_min(1e-6)
    penalty_F = (penalty * square * count).repeat(len(gram_FF))
    penalty_F[-1] = UNPENALISED * count
    return torch.cholesky_solve(cross_FX, torch.linalg.cholesky(gram_FF + penalty_F.diag()))
