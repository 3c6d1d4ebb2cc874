"""The same networks trained as the textbook writes it: what a first implementation does, and what toconv does not."""

# B batch, N original tokens, M compressed tokens, U scored units, C channels

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid
from toconv.models.critic import TokenCritic
from toconv.models.kernels.norm_silu import NormSiLU
from toconv.training.loop import Training


def textbook(critic: TokenCritic) -> nn.Module:
    """The same critic with the same weights, of torch's own layers alone."""
    layers: list[nn.Module] = []
    for layer in critic.layers:
        layers.append(layer)
        if isinstance(layer, NormSiLU):
            layers[-1] = nn.LayerNorm(layer.normalized_shape)
            layers[-1].weight, layers[-1].bias = layer.weight, layer.bias
            layers.append(nn.SiLU())
    return nn.Sequential(*layers, nn.Flatten(0))


class NaiveStep:
    """Follows arXiv 1704.00028, algorithm 1, line by line: the generator runs anew for every critic step and once more
    for its own, cells are drawn in loops, every loss is read at once, and the critic collects gradients that nobody
    uses. Losses, networks, sizes and number of scored tokens are toconv's."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.critic = textbook(training.critic)

    def step(self, x_BNC: torch.Tensor) -> dict[str, float]:
        t, loss = self.training, self.training.settings.loss
        for _ in range(t.settings.training.n_critic):
            fake_UC, real_UC = self._units(x_BNC, t.compressor(x_BNC).detach())
            alpha_U1 = torch.rand(len(real_UC), 1, device=x_BNC.device)
            mixed_UC = (alpha_U1 * real_UC + (1 - alpha_U1) * fake_UC).requires_grad_(True)
            scores_U = self.critic(mixed_UC)
            (gradient_UC,) = torch.autograd.grad(scores_U, mixed_UC, torch.ones_like(scores_U), create_graph=True)
            penalty = ((gradient_UC.norm(2, dim=1) - 1) ** 2).mean()
            l_disc = -self.critic(real_UC).mean() + self.critic(fake_UC).mean() + loss.lambda_gp * penalty
            t.critic_optimizer.zero_grad()
            l_disc.backward()
            t.critic_optimizer.step()
            seen = {"L_disc": l_disc.item(), "gradient_penalty": penalty.item()}
        z_BMC = t.compressor(x_BNC)
        l_gen = -self.critic(z_BMC).mean()
        mse, cosine = self._reconstruction(x_BNC, t.decoder(z_BMC))
        l_total = loss.wgan_weight * l_gen + loss.ae_weight * (mse + cosine)
        t.optimizer.zero_grad()
        l_total.backward()
        t.optimizer.step()
        return seen | {
            "L_gen": l_gen.item(),
            "L_ae_mse": mse.item(),
            "L_ae_cosine": cosine.item(),
            "L_total": l_total.item(),
        }

    def _units(self, x_BNC: torch.Tensor, z_BMC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        k, g = self.training.k, grid.side(x_BNC)
        fakes, reals = [], []
        for b in range(len(x_BNC)):
            for cell in torch.randperm(k * k)[: self.training.settings.model.critic.tokens_per_image].tolist():
                row, column = (int(torch.randint(*grid.window(i, g, k), ()).item()) for i in divmod(cell, k))
                fakes.append(z_BMC[b, cell])
                reals.append(x_BNC[b, row * g + column])
        return torch.stack(fakes), torch.stack(reals)

    def _reconstruction(self, x_BNC: torch.Tensor, y_BNC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each cell's window of the original against the decoder's, window by window."""
        k, g = self.training.k, grid.side(x_BNC)
        x_BghC, y_BghC = (t.unflatten(1, (g, g)) for t in (x_BNC, y_BNC))
        mse, cosine = x_BNC.new_zeros(()), x_BNC.new_zeros(())
        for cell in range(k * k):
            rows, columns = (slice(*grid.window(i, g, k)) for i in divmod(cell, k))
            x, y = x_BghC[:, rows, columns].flatten(1, 2), y_BghC[:, rows, columns].flatten(1, 2)
            mse = mse + F.mse_loss(y, x) / k**2
            cosine = cosine + (1 - F.cosine_similarity(x, y, dim=-1)).mean() / k**2
        return mse, cosine
