"""The critics of arXiv 1704.00028: no batch norm, no dropout, linear last layer. Each scores one sample by itself.

A critic is `judge` after `embed`, which is linear: interpolated samples embed to interpolated embeddings, and ∇_x D =
Eᵀ·∇_h judge(h), E being `embedding_WC`, so that a penalty on ∇_x D never needs the samples between."""

# U scored samples, M = k*k compressed tokens, C channels of a token, W channels of its embedding

import itertools
from typing import cast

import torch
from torch import nn

from toconv import grid
from toconv.models.kernels.norm_silu import NormSiLU
from toconv.settings import CriticSettings


class TokenCritic(nn.Module):
    """(…, C) tokens → (…) scores; with `conditional`, each beside a (…, C) condition."""

    def __init__(self, channels: int, settings: CriticSettings) -> None:
        super().__init__()
        first = channels * (2 if settings.head == "conditional" else 1)
        widths = [first] + [settings.width] * settings.layers
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), NormSiLU(b))]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], 1))
        self._channels = channels

    @property
    def embedding_WC(self) -> torch.Tensor:
        """By the token alone, not by its condition."""
        return cast(nn.Linear, self.layers[0]).weight[:, : self._channels]

    def embed(self, x_UC: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """(…, C) → (…, W), linear."""
        if condition is not None:
            x_UC = torch.cat([x_UC, condition], dim=-1)
        return self.layers[0](x_UC)

    def judge(self, h_UW: torch.Tensor) -> torch.Tensor:
        """(…, W) → (…) scores."""
        return self.layers[1:](h_UW).squeeze(-1)

    def forward(self, x_UC: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.judge(self.embed(x_UC, condition))


class GridCritic(nn.Module):
    """(U, M, C) whole grids → (U) scores: tokens and their neighbours, averaged over the grid."""

    def __init__(self, channels: int, settings: CriticSettings) -> None:
        super().__init__()
        self.read = nn.Linear(channels, settings.width)
        self.norms = nn.ModuleList(nn.LayerNorm(settings.width) for _ in range(settings.layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(settings.width, settings.width, 3, padding=1) for _ in range(settings.layers)
        )
        self.score = nn.Linear(settings.width, 1)

    @property
    def embedding_WC(self) -> torch.Tensor:
        return self.read.weight

    def embed(self, x_UMC: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """(U, M, C) → (U, M, W), linear. Grids have no condition."""
        return self.read(x_UMC)

    def judge(self, h_UMW: torch.Tensor) -> torch.Tensor:
        """(U, M, W) → (U) scores."""
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h_UMW = h_UMW + nn.functional.silu(grid.to_tokens(conv(grid.to_map(norm(h_UMW)))))
        return self.score(h_UMW).mean(dim=(1, 2))

    def forward(self, x_UMC: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.judge(self.embed(x_UMC, condition))


Critic = TokenCritic | GridCritic


def build_critic(channels: int, settings: CriticSettings) -> Critic:
    """The critic of `settings.head`."""
    kinds: dict[str, type[Critic]] = {"token": TokenCritic, "conditional": TokenCritic, "grid": GridCritic}
    return kinds[settings.head](channels, settings)
