"""Losses against the papers' formulas, computed the slow way."""

import pytest
import torch
import torch.nn.functional as F

from toconv import grid, losses
from toconv.models.critic import Critic
from toconv.settings import CriticSettings


@pytest.fixture
def critic():
    torch.manual_seed(0)
    return Critic(6, CriticSettings(width=16, layers=2, tokens_per_image=16)).double()


def units(n, seed):
    return torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force_penalty(critic, real, fake, alpha):
    """One unit at a time, by autograd on that unit's score alone."""
    total = 0.0
    for r, f, a in zip(real, fake, alpha, strict=True):
        x = (a * r + (1 - a) * f).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(x[None])[0], x)
        total += (gradient.pow(2).sum().sqrt() - 1) ** 2
    return total / len(real)


def test_gradient_penalty_equals_per_sample_autograd(critic):
    real, fake, alpha = units(12, 1), units(12, 2), torch.rand(12, 1, dtype=torch.float64)
    torch.testing.assert_close(losses.gradient_penalty(critic, real, fake, alpha),
                               brute_force_penalty(critic, real, fake, alpha))


def test_gradient_penalty_means_the_same_at_any_number_of_units(critic):
    real, fake, alpha = units(4, 1), units(4, 2), torch.full((4, 1), 0.3, dtype=torch.float64)
    once = losses.gradient_penalty(critic, real, fake, alpha)
    many = losses.gradient_penalty(critic, *(t.repeat(9, 1) for t in (real, fake, alpha)))
    torch.testing.assert_close(once, many)


def test_gradient_penalty_reaches_the_critics_weights_by_double_backward(critic):
    real, fake, alpha = units(8, 1), units(8, 2), torch.full((8, 1), 0.5, dtype=torch.float64)
    losses.gradient_penalty(critic, real, fake, alpha).backward()
    weight = critic.layers[0].weight
    analytic, step = weight.grad[0, 0].item(), 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
        values.append(brute_force_penalty(critic, real, fake, alpha).item())
        with torch.no_grad():
            weight[0, 0] -= sign * step
    assert analytic == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-9)


def test_critic_and_generator_losses_have_the_papers_signs():
    real, fake, penalty = torch.tensor([3.0, 5.0]), torch.tensor([1.0, 0.0]), torch.tensor(0.25)
    assert losses.critic_loss(real, fake, penalty, 10.0).item() == -4 + 0.5 + 2.5
    assert losses.generator_loss(fake).item() == -0.5


@pytest.mark.parametrize("k", [1, 4, 5, 6, 7, 10, 16, 23])
def test_reconstruction_equals_a_loop_over_compressed_tokens_and_their_receptive_fields(k):
    generator = torch.Generator().manual_seed(k)
    x, y = (torch.randn(2, 576, 4, generator=generator) for _ in range(2))
    mse, cosine = [], []
    for b in range(2):
        for i in range(k):
            for j in range(k):
                (top, bottom), (left, right) = grid.window(i, 24, k), grid.window(j, 24, k)
                field = [r * 24 + c for r in range(top, bottom) for c in range(left, right)]
                mse.append(F.mse_loss(x[b, field], y[b, field]))
                cosine.append(1 - F.cosine_similarity(x[b, field], y[b, field], dim=-1).mean())
    found = losses.reconstruction_loss(x, y, grid.coverage(24, k))
    torch.testing.assert_close(found.mse, torch.stack(mse).mean())
    torch.testing.assert_close(found.cosine, torch.stack(cosine).mean())


def test_both_reconstruction_terms_are_real():
    x = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(0))
    coverage = grid.coverage(4, 2)
    scaled = losses.reconstruction_loss(x, 2 * x, coverage)
    assert scaled.mse > 0.1 and scaled.cosine.abs() < 1e-6  # a scale is seen by the squared error alone
    torch.testing.assert_close(scaled.mse, x.square().mean())
