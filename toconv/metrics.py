"""Held-out metrics. Every channel of the standardised tokens counts alike."""

# B batch, N original tokens, M compressed tokens, C channels

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F

from toconv.perception import PerceptionReference

Map = Callable[[torch.Tensor], torch.Tensor]


class Distortion:
    """FVU = Σ‖x − x̂‖² / Σ‖x − mean‖² with the training split's mean, which is 0 for standardised tokens,
    and the mean cosine of x and x̂, centred for the same reason. Sums stay on the device."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._tokens = 0

    def add(self, x_BNC: torch.Tensor, y_BNC: torch.Tensor) -> None:
        cosine = F.cosine_similarity(x_BNC, y_BNC, dim=-1).sum(dtype=torch.float64)
        error, total = ((t * t).sum(dtype=torch.float64) for t in (x_BNC - y_BNC, x_BNC))
        self._sums += torch.stack([error, total, cosine])
        self._tokens += x_BNC.shape[0] * x_BNC.shape[1]

    def results(self) -> torch.Tensor:
        """(2,) FVU and centred cosine, not synchronised."""
        return torch.stack([self._sums[0] / self._sums[1], self._sums[2] / self._tokens])


def evaluate(
    compress: Map, decompress: Map, batches: Iterable[torch.Tensor], reference: PerceptionReference
) -> dict[str, float]:
    """`distortion` (FVU), `cosine` (centred) and `perception` over all (B, N, C) batches; one host sync."""
    distortion, draws = None, reference.draws()
    for x_BNC in batches:
        z_BMC = compress(x_BNC)
        distortion = distortion or Distortion(x_BNC.device)
        distortion.add(x_BNC, decompress(z_BMC).float())
        draws.add(z_BMC)
    values = torch.cat([distortion.results(), reference.excess(draws).double()[None]])
    return dict(zip(("distortion", "cosine", "perception"), values.tolist(), strict=True))
