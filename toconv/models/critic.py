"""The critic of arXiv 1704.00028 on single tokens (the `token` head)."""

# U scored units, C channels of a token

from __future__ import annotations

import itertools

import torch
from torch import nn

from toconv.settings import CriticSettings


class Critic(nn.Module):
    """(…, C) tokens → (…) scores. No batch norm and no dropout; linear last layer."""

    def __init__(self, channels: int, settings: CriticSettings) -> None:
        super().__init__()
        widths = [channels] + [settings.width] * settings.layers
        hidden = [layer for a, b in itertools.pairwise(widths)
                  for layer in (nn.Linear(a, b), nn.LayerNorm(b), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 1))

    def forward(self, x_UC: torch.Tensor) -> torch.Tensor:
        return self.layers(x_UC).squeeze(-1)
