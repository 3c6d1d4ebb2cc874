"""Losses against the papers' formulas, computed the slow way."""

import pytest
import torch
import torch.nn.functional as F

from toconv import grid
from toconv.models.critic import build_critic
from toconv.settings import CriticSettings
from toconv.training import losses


def make_critic(head="token"):
    torch.manual_seed(0)
    settings = CriticSettings(head=head, pairs="matched", width=16, layers=2, tokens_per_image=16)
    return build_critic(6, settings).double()


@pytest.fixture
def critic():
    return make_critic()


def samples(n, seed, *shape):
    return torch.randn(n, *shape, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force_penalty(kind, critic, real, fake, alpha):
    """One sample at a time, by autograd on that sample's score alone."""
    total = 0.0
    for r, f, a in zip(real, fake, alpha, strict=True):
        x = {"r1": r, "r2": f}.get(kind, a * r + (1 - a) * f).clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(x[None])[0], x)
        norm = gradient.pow(2).sum().sqrt()
        total += {"two_sided": (norm - 1) ** 2, "one_sided": (norm - 1).clamp(min=0) ** 2}.get(kind, norm**2 / 2)
    return total / len(real)


@pytest.mark.parametrize("head", ["token", "grid"])
@pytest.mark.parametrize("kind", ["two_sided", "one_sided", "r1", "r2"])
@pytest.mark.parametrize("scale", [1, 30])
def test_gradient_penalty_equals_per_sample_autograd(kind, head, scale):
    critic, shape = make_critic(head), (9,) if head == "grid" else ()
    with torch.no_grad():
        (critic.score if head == "grid" else critic.layers[-1]).weight.mul_(scale)  # gradients on both sides of 1
    real, fake, alpha = samples(12, 1, *shape), samples(12, 2, *shape), torch.rand(12, dtype=torch.float64)
    scores_of_real, scores_of_fake, found = losses.scores_and_penalty(kind, critic, real, fake, alpha)
    torch.testing.assert_close(found, brute_force_penalty(kind, critic, real, fake, alpha))
    assert found > 0 or (kind == "one_sided" and scale == 1)
    torch.testing.assert_close(scores_of_real, critic(real))
    torch.testing.assert_close(scores_of_fake, critic(fake))


def test_the_penalty_of_a_conditional_critic_is_taken_on_the_token_alone():
    critic, condition = make_critic("conditional"), samples(12, 3)
    real, fake, alpha = samples(12, 1), samples(12, 2), torch.rand(12, dtype=torch.float64)
    scores_of_real, _, found = losses.scores_and_penalty("two_sided", critic, real, fake, alpha, condition)
    torch.testing.assert_close(scores_of_real, critic(real, condition))
    expected = 0.0
    for r, f, a, c in zip(real, fake, alpha, condition, strict=True):
        x = (a * r + (1 - a) * f).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(x, c), x)
        expected += (gradient.norm() - 1) ** 2 / 12
    torch.testing.assert_close(found, expected)


def test_balanced_losses_pull_equally_at_the_compressed_tokens():
    z = samples(5, 1).requires_grad_(True)
    ae, gen = (z * samples(5, 2)).sum() * 3, (z.square() * samples(5, 3)).mean()
    (a,), (b,) = torch.autograd.grad(ae, z), torch.autograd.grad(gen, z)
    torch.testing.assert_close(a.norm(), (losses.gradient_balance(a, b) * b).norm(), check_dtype=False)


def test_gradient_penalty_means_the_same_at_any_number_of_samples(critic):
    real, fake, alpha = samples(4, 1), samples(4, 2), torch.full((4, 1), 0.3, dtype=torch.float64)
    *_, once = losses.scores_and_penalty("two_sided", critic, real, fake, alpha)
    *_, many = losses.scores_and_penalty("two_sided", critic, real.repeat(9, 1), fake.repeat(9, 1), alpha.repeat(9, 1))
    torch.testing.assert_close(once, many)


@pytest.mark.parametrize("kind", ["two_sided", "r1"])
@pytest.mark.parametrize("head", ["token", "conditional", "grid"])
def test_gradients_of_the_critics_loss_equal_those_of_the_textbook_with_interpolated_samples(head, kind):
    critic, shape = make_critic(head), (9,) if head == "grid" else ()
    real, fake, alpha = samples(8, 1, *shape), samples(8, 2, *shape), torch.rand(8, dtype=torch.float64)
    condition = samples(8, 3) if head == "conditional" else None
    scores_of_real, scores_of_fake, penalty = losses.scores_and_penalty(kind, critic, real, fake, alpha, condition)
    found = torch.autograd.grad(
        losses.critic_loss(scores_of_real, scores_of_fake, penalty, 10.0), list(critic.parameters()), allow_unused=True
    )
    weight = alpha.view(-1, *[1] * (real.ndim - 1))
    x = (real if kind == "r1" else weight * real + (1 - weight) * fake).requires_grad_(True)
    (by_x,) = torch.autograd.grad(critic(x, condition).sum(), x, create_graph=True)
    norms = by_x.flatten(1).norm(dim=1)
    textbook = norms.square().mean() / 2 if kind == "r1" else (norms - 1).square().mean()
    loss = -critic(real, condition).mean() + critic(fake, condition).mean() + 10.0 * textbook
    expected = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


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
