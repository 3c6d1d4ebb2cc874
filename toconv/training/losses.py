"""Losses in the papers' symbols; pure functions."""

# U critic samples, B batch, N tokens of the original grid, C channels

from typing import NamedTuple

import torch

from toconv.models.critic import Critic
from toconv.models.kernels.reconstruction import SMALLEST, reconstruction
from toconv.settings import LossSettings


class Reconstruction(NamedTuple):
    mse: torch.Tensor
    cosine: torch.Tensor  # 1 - cosine similarity


def scores_and_penalty(
    kind: str,
    critic: Critic,
    real_U: torch.Tensor,
    fake_U: torch.Tensor,
    alpha_U: torch.Tensor,
    condition_U: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """D(real), D(fake) and the penalty on ∇D of each critic sample, a token or a grid of tokens. alpha has one number
    for each sample, `condition_U` what stands beside both. `two_sided`: E[(‖∇_x̂ D(x̂)‖₂ − 1)²], x̂ = α·real + (1 −
    α)·fake (arXiv 1704.00028, eq. 3); `one_sided`: E[max(0, ‖∇_x̂ D(x̂)‖₂ − 1)²] (the same, section 4). `r1`:
    E[‖∇D(real)‖²]/2, `r2`: E[‖∇D(fake)‖²]/2 (arXiv 1801.04406, eqs. 9 and 10). The critic scores each sample by itself,
    so that the gradient of the scores' sum holds every sample's own. x̂ is interpolated where it is linear in real and
    fake, after `critic.embed`."""
    conditions = None if condition_U is None else torch.cat([condition_U] * 2)
    embedded = critic.embed(torch.cat([real_U, fake_U]), conditions)
    real_h, fake_h = embedded.chunk(2)
    points = {"r1": real_h, "r2": fake_h}
    h = points[kind] if kind in points else torch.lerp(fake_h, real_h, alpha_U.view(-1, *[1] * (real_h.ndim - 1)))
    (by_h,) = torch.autograd.grad(critic.judge(h).sum(), h, create_graph=True)
    norm_U = (by_h @ critic.embedding_WC).flatten(1).norm(2, dim=-1)
    if kind in points:
        penalty = norm_U.square().mean() / 2
    else:
        excess_U = norm_U - 1
        penalty = (excess_U.clamp_min(0) if kind == "one_sided" else excess_U).square().mean()
    return *critic.judge(embedded).chunk(2), penalty


def gradient_balance(of_ae: torch.Tensor, of_gen: torch.Tensor) -> torch.Tensor:
    """‖∇_z L_ae‖ / ‖∇_z L_gen‖ of both losses' gradients at a batch's compressed tokens z: how much L_gen is to be
    scaled to pull as L_ae does (arXiv 2012.09841, eq. 7)."""
    return of_ae.float().norm() / of_gen.float().norm().clamp_min(SMALLEST**0.5)


def critic_loss(real_U: torch.Tensor, fake_U: torch.Tensor, penalty: torch.Tensor, lambda_gp: float) -> torch.Tensor:
    """L_disc = −E[D(real)] + E[D(fake)] + lambda_gp·GP (arXiv 1704.00028, algorithm 1)."""
    return -real_U.mean() + fake_U.mean() + lambda_gp * penalty


def adversarial_weight(loss: LossSettings) -> float:
    """The weight of L_gen: `wgan_weight`, or what `log_ratio` makes of `ae_weight`."""
    return loss.wgan_weight if loss.log_ratio is None else loss.ae_weight * 10**loss.log_ratio


def generator_loss(fake_U: torch.Tensor) -> torch.Tensor:
    """L_gen = −E[D(fake)] (arXiv 1704.00028, algorithm 1)."""
    return -fake_U.mean()


def reconstruction_loss(x_BNC: torch.Tensor, y_BNC: torch.Tensor, coverage_N: torch.Tensor) -> Reconstruction:
    """L_ae = MSE + (1 − cosine) between standardised tokens x, which get no gradient, and their reconstruction y. Each
    compressed token's receptive field is compared with what the decoder makes of it, and all compressed tokens count
    alike: `coverage_N` is `grid.coverage`. MSE is exact to about 1e-6."""
    return Reconstruction(*reconstruction(x_BNC, y_BNC, coverage_N))
