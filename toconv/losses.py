"""Losses in the papers' symbols; pure functions."""

# U scored units, B batch, N tokens of the original grid, C channels

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Critic = Callable[[torch.Tensor], torch.Tensor]
SMALLEST = 1e-16  # squared product of two tokens' lengths, below which their cosine counts as 0


class Reconstruction(NamedTuple):
    mse: torch.Tensor
    cosine: torch.Tensor  # 1 - cosine similarity


def gradient_penalty(
    critic: Critic, real_UC: torch.Tensor, fake_UC: torch.Tensor, alpha_U1: torch.Tensor
) -> torch.Tensor:
    """GP = E[(‖∇_x̂ D(x̂)‖₂ − 1)²], x̂ = α·real + (1 − α)·fake, for each scored unit (arXiv 1704.00028, eq. 3).

    The critic scores each unit by itself, so that the gradient of the scores' sum holds every unit's own.
    """
    x_UC = torch.lerp(fake_UC, real_UC, alpha_U1).detach().requires_grad_(True)
    (gradient_UC,) = torch.autograd.grad(critic(x_UC).sum(), x_UC, create_graph=True)
    return (gradient_UC.norm(2, dim=-1) - 1).square().mean()


def critic_loss(
    real_U: torch.Tensor, fake_U: torch.Tensor, penalty: torch.Tensor, lambda_gp: float
) -> torch.Tensor:
    """L_disc = −E[D(real)] + E[D(fake)] + lambda_gp·GP (arXiv 1704.00028, algorithm 1)."""
    return -real_U.mean() + fake_U.mean() + lambda_gp * penalty


def generator_loss(fake_U: torch.Tensor) -> torch.Tensor:
    """L_gen = −E[D(fake)] (arXiv 1704.00028, algorithm 1)."""
    return -fake_U.mean()


def reconstruction_loss(
    x_BNC: torch.Tensor, y_BNC: torch.Tensor, coverage_N: torch.Tensor
) -> Reconstruction:
    """L_ae = MSE + (1 − cosine) between standardised tokens x and their reconstruction y.

    Each compressed token's receptive field is compared with what the decoder makes of it, and all
    compressed tokens count alike: `coverage_N` is `grid.coverage`. Both terms come from the same three
    dot products, a third of the time of two separate losses; MSE is then exact to about 1e-6.
    """
    xx_BN, xy_BN, yy_BN = ((a * b).sum(-1) for a, b in ((x_BNC, x_BNC), (x_BNC, y_BNC), (y_BNC, y_BNC)))
    mse_BN = (xx_BN - 2 * xy_BN + yy_BN) / x_BNC.shape[-1]
    cosine_BN = 1 - xy_BN * (xx_BN * yy_BN).clamp_min(SMALLEST).rsqrt()
    return Reconstruction((mse_BN @ coverage_N).mean(), (cosine_BN @ coverage_N).mean())
