"""Held-out metrics, on standardised tokens: every channel counts alike."""

# B batch, N = g*g original tokens, M = k*k compressed tokens, C channels, D = s*s*C of a block

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from toconv import grid
from toconv.perception import PerceptionReference

Map = Callable[[torch.Tensor], torch.Tensor]
RIDGE = 0.1  # of the mean variance of a compressed channel; fixed, the same for every compressor and k


class Distortion:
    """FVU = Σ‖x − x̂‖² / Σ‖x − mean‖² with the training split's mean, which is 0 for standardised tokens,
    and the mean cosine of x and x̂, centred for the same reason. Sums stay on the device."""

    def __init__(self) -> None:
        self._sums: torch.Tensor | float = 0.0
        self._tokens = 0

    def add(self, x_BNC: torch.Tensor, y_BNC: torch.Tensor) -> None:
        x_BNC, y_BNC = x_BNC.float(), y_BNC.float()
        xx_BN, xy_BN, yy_BN = (
            (a * b).sum(-1).double() for a, b in ((x_BNC, x_BNC), (x_BNC, y_BNC), (y_BNC, y_BNC)))
        cosine_BN = xy_BN / (xx_BN * yy_BN).sqrt().clamp_min(1e-8)
        error_BN = xx_BN - 2 * xy_BN + yy_BN
        self._sums = self._sums + torch.stack([error_BN.sum(), xx_BN.sum(), cosine_BN.sum()])
        self._tokens += x_BNC.shape[0] * x_BNC.shape[1]

    def results(self) -> torch.Tensor:
        """(2,) FVU and centred cosine, not synchronised."""
        return torch.stack([self._sums[0] / self._sums[1], self._sums[2] / self._tokens])


def evaluate(
    compress: Map, decompress: Map, batches: Iterable[torch.Tensor], reference: PerceptionReference
) -> dict[str, float]:
    """`distortion` (FVU), `cosine` (centred) and `perception` over all (B, N, C) batches; one host sync."""
    distortion, draws = Distortion(), reference.draws()
    for x_BNC in batches:
        z_BMC = compress(x_BNC)
        distortion.add(x_BNC, decompress(z_BMC))
        draws.add(z_BMC)
    values = torch.cat([distortion.results(), reference.excess(draws).double()[None]])
    return dict(zip(("distortion", "cosine", "perception"), values.tolist(), strict=True))


def ridge_distortion(
    compress: Map, train: Iterable[torch.Tensor], held_out: Sequence[Iterable[torch.Tensor]], g: int, k: int
) -> list[float]:
    """FVU on each split of `held_out` with a decoder that is the same for every compressor, fitted on `train`.

    What bilinear up-sampling leaves of a cell's s×s block of tokens (`grid.blocks`) is predicted from the
    cell's own compressed token, linearly and in closed form.
    """
    weights_FD = _fit_ridge(compress, train, g, k)
    found = []
    for images in held_out:
        distortion = Distortion()
        for x_BNC in images:
            z_BMC = compress(x_BNC).float()
            with _full_precision(z_BMC):
                residual_BNC = grid.unblocks(_with_constant(z_BMC) @ weights_FD, g)
                distortion.add(x_BNC, grid.upsample(z_BMC, g) + residual_BNC)
        found.append(distortion.results()[0])
    return torch.stack(found).tolist()


def _fit_ridge(compress: Map, train: Iterable[torch.Tensor], g: int, k: int) -> torch.Tensor:
    """(F, D) weights, F = C + 1; the constant is not penalised."""
    gram_FF = cross_FD = 0.0
    for x_BNC in train:
        z_BMC = compress(x_BNC).float()
        with _full_precision(z_BMC):
            features = _with_constant(z_BMC).flatten(0, 1)
            gram_FF = gram_FF + (features.T @ features).double()
            cross_FD = cross_FD + features.T @ grid.blocks(x_BNC - grid.upsample(z_BMC, g), k).flatten(0, 1)
    sums_F, samples = gram_FF[-1], gram_FF[-1, -1]
    penalty_F = (RIDGE * (gram_FF.diagonal() - sums_F**2 / samples)[:-1].mean()).repeat(len(gram_FF))
    penalty_F[-1] = 0
    with _full_precision(cross_FD):
        return torch.linalg.inv(gram_FF + penalty_F.diag()).float() @ cross_FD


def _with_constant(z_BMC: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(z_BMC, (0, 1), value=1.0)


def _full_precision(x: torch.Tensor) -> torch.autocast:
    """Metrics keep fp32 where the networks around them run in bf16."""
    return torch.autocast(x.device.type, enabled=False)
