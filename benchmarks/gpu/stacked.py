"""Several trainings in one: their weights stacked, and one step over all by torch.func.vmap.

Every training sees the same batch and draws its own critic samples. Where toconv writes a gradient by hand, which vmap
does not take, the plain formula beside it stands in."""

# T trainings, B batch, M compressed tokens, U critic samples, C channels

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call, grad, grad_and_value, stack_module_state, vmap

from benchmarks.naive_step import textbook
from toconv.models.critic import TokenCritic
from toconv.models.kernels.reconstruction import plain_reconstruction
from toconv.training import losses
from toconv.training.critic_samples import draw_critic_samples
from toconv.training.loop import Training
from toconv.training.optimizers import Adam, AdamW

Weights = dict[str, torch.Tensor]  # by name, in front T


class _Generator(nn.Module):
    """Compressor and decoder in one module."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.compressor, self.decoder = training.compressor, training.decoder

    def forward(self, x_BNC: torch.Tensor, start_BMC: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        z_BMC = self.compressor(x_BNC, start_BMC)
        return z_BMC, self.decoder(z_BMC)


class StackedStep:
    """`count` trainings that begin as `training` would, which lends its networks, losses and settings."""

    def __init__(self, training: Training, count: int) -> None:
        assert isinstance(training.critic, TokenCritic)
        self._training, self._count, t = training, count, training.settings.training
        self._generator, self._critic = _Generator(training), textbook(training.critic)
        self._weights, _ = stack_module_state([self._generator] * count)
        self._critic_weights, _ = stack_module_state([self._critic] * count)
        self._optimizer = AdamW(
            self._weights.values(), t.learning_rate, t.betas, weight_decay=t.weight_decay, fused=True
        )
        self._critic_optimizer = Adam(self._critic_weights.values(), t.critic_learning_rate, t.critic_betas, fused=True)

    @torch.no_grad()  # grad of torch.func differentiates all the same
    def __call__(self, x_BNC: torch.Tensor, images_B: torch.Tensor) -> torch.Tensor:
        """L_total of each training, (T,), before the step."""
        start_BMC = self._training.starts.at(images_B, self._training.k)
        fakes_TBMC = vmap(lambda weights: self._made(weights, x_BNC, start_BMC)[0])(self._weights)
        for _ in range(self._training.settings.training.n_critic):
            self._critic_step(x_BNC, fakes_TBMC.float())
        of_each = vmap(grad_and_value(self._generator_loss), in_dims=(0, 0, None, None))
        gradients, l_total_T = of_each(self._weights, self._critic_weights, x_BNC, start_BMC)
        _take(self._optimizer, self._weights, gradients)
        return l_total_T

    def _made(
        self, weights: Weights, x_BNC: torch.Tensor, start_BMC: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        bf16 = self._training.settings.hardware.mixed_precision is True
        with torch.autocast(x_BNC.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            return functional_call(self._generator, weights, (x_BNC, start_BMC))

    def _critic_step(self, x_BNC: torch.Tensor, fakes_TBMC: torch.Tensor) -> None:
        training = self._training
        drawn = [
            draw_critic_samples(training.settings.model.critic, x_BNC, fake_BMC, None, training.draws)
            for fake_BMC in fakes_TBMC
        ]
        real_TUC, fake_TUC = (torch.stack([getattr(d, of) for d in drawn]) for of in ("real", "fake"))
        alpha_TU1 = torch.rand(*real_TUC.shape[:2], 1, device=x_BNC.device, generator=training.draws)
        gradients = vmap(grad(self._critic_loss))(self._critic_weights, real_TUC, fake_TUC, alpha_TU1)
        _take(self._critic_optimizer, self._critic_weights, gradients)

    def _critic_loss(
        self, weights: Weights, real_UC: torch.Tensor, fake_UC: torch.Tensor, alpha_U1: torch.Tensor
    ) -> torch.Tensor:
        """arXiv 1704.00028, algorithm 1."""

        def scores(x_UC: torch.Tensor) -> torch.Tensor:
            return functional_call(self._critic, weights, (x_UC,))

        gradient_UC = grad(lambda x_UC: scores(x_UC).sum())(torch.lerp(fake_UC, real_UC, alpha_U1))
        penalty = (torch.linalg.vector_norm(gradient_UC, dim=-1) - 1).square().mean()
        return losses.critic_loss(scores(real_UC), scores(fake_UC), penalty, self._training.settings.loss.lambda_gp)

    def _generator_loss(
        self, weights: Weights, critic_weights: Weights, x_BNC: torch.Tensor, start_BMC: torch.Tensor | None
    ) -> torch.Tensor:
        loss = self._training.settings.loss
        z_BMC, y_BNC = self._made(weights, x_BNC, start_BMC)
        mse, cosine = plain_reconstruction(x_BNC, y_BNC.float(), self._training.coverage_N[self._training.k])
        l_gen = losses.generator_loss(functional_call(self._critic, critic_weights, (z_BMC.float(),)))
        return losses.adversarial_weight(loss) * l_gen + loss.ae_weight * (mse + cosine)


def _take(optimizer: torch.optim.Optimizer, weights: Weights, gradients: Weights) -> None:
    """A step with these gradients. Adam works on each number by itself, and hence on stacked weights as on one."""
    for name, weight in weights.items():
        weight.grad = gradients[name]
    optimizer.step()
