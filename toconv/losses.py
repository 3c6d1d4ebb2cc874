"""Losses in the papers' symbols; pure functions."""

# U scored units, B batch, N tokens of the original grid, C channels

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from toconv.settings import LossSettings

Critic = Callable[[torch.Tensor], torch.Tensor]
SMALLEST = 1e-16  # squared product of two tokens' lengths, below which their cosine counts as 0


class Reconstruction(NamedTuple):
    mse: torch.Tensor
    cosine: torch.Tensor  # 1 - cosine similarity


def gradient_penalty(
    kind: str, critic: Critic, real_U: torch.Tensor, fake_U: torch.Tensor, alpha_U: torch.Tensor
) -> torch.Tensor:
    """The penalty on ∇D of each scored unit, a token or a grid of tokens; alpha has one number for each unit.

    `two_sided`: E[(‖∇_x̂ D(x̂)‖₂ − 1)²], x̂ = α·real + (1 − α)·fake (arXiv 1704.00028, eq. 3); `one_sided`:
    E[max(0, ‖∇_x̂ D(x̂)‖₂ − 1)²] (the same, section 4). `r1`: E[‖∇D(real)‖²]/2, `r2`: E[‖∇D(fake)‖²]/2
    (arXiv 1801.04406, eqs. 9 and 10). The critic scores each unit by itself, so that the gradient of the scores' sum
    holds every unit's own.
    """
    points = {"r1": real_U, "r2": fake_U}
    x_U = points[kind] if kind in points else torch.lerp(fake_U, real_U, alpha_U.view(-1, *[1] * (real_U.ndim - 1)))
    x_U = x_U.detach().requires_grad_(True)
    (gradient_U,) = torch.autograd.grad(critic(x_U).sum(), x_U, create_graph=True)
    norm_U = gradient_U.flatten(1).norm(2, dim=-1)
    if kind in points:
        return norm_U.square().mean() / 2
    excess_U = norm_U - 1
    return (excess_U.clamp_min(0) if kind == "one_sided" else excess_U).square().mean()


def gradient_balance(ae: torch.Tensor, gen: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """‖∇_z L_ae‖ / ‖∇_z L_gen‖ at the compressed tokens z: how much L_gen is to be scaled to pull as L_ae does
    (arXiv 2012.09841, eq. 7). Not differentiated."""
    ae_norm, gen_norm = (torch.autograd.grad(loss, z, retain_graph=True)[0].float().norm() for loss in (ae, gen))
    return (ae_norm / gen_norm.clamp_min(SMALLEST**0.5)).detach()


def critic_loss(
    real_U: torch.Tensor, fake_U: torch.Tensor, penalty: torch.Tensor, lambda_gp: float
) -> torch.Tensor:
    """L_disc = −E[D(real)] + E[D(fake)] + lambda_gp·GP (arXiv 1704.00028, algorithm 1)."""
    return -real_U.mean() + fake_U.mean() + lambda_gp * penalty


def adversarial_weight(loss: LossSettings) -> float:
    """The weight of L_gen: `wgan_weight`, or what `log_ratio` makes of `ae_weight`."""
    return loss.wgan_weight if loss.log_ratio is None else loss.ae_weight * 10**loss.log_ratio


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
