"""The gradients of critic and generator on one batch, whole or in parts that add up to the same."""

# B batch, N = g*g original tokens, M = k*k compressed tokens, U critic samples, C channels

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import nn

from toconv.hardware import mixed_precision
from toconv.models.critic import Critic
from toconv.models.nested import at_size
from toconv.settings import Settings
from toconv.training import losses
from toconv.training.agreement import AgreementLoss
from toconv.training.critic_samples import CriticSamples
from toconv.training.micro_batches import CompressedBatch, MicroBatches


class Batch(NamedTuple):
    """Tokens of training images, the images' indices, where their compressed tokens start, if that is known, and the
    cells' means where the critic looks at them."""

    x_BNC: torch.Tensor
    images_B: torch.Tensor
    start_BMC: torch.Tensor | None
    means_BMC: torch.Tensor | None
    k: int

    def at(self, images: slice) -> Batch:
        start_BMC, means_BMC = (None if x is None else x[images] for x in (self.start_BMC, self.means_BMC))
        return Batch(self.x_BNC[images], self.images_B[images], start_BMC, means_BMC, self.k)


class Part(NamedTuple):
    """What some images of a batch add: to the losses (L_gen, MSE, 1 − cosine, L_agreement), and at their compressed
    tokens the gradients of L_total without L_gen, of L_gen, and of L_ae where the balance asks for it."""

    losses: torch.Tensor
    of_rest: torch.Tensor
    of_gen: torch.Tensor
    of_ae: torch.Tensor


class Gradients:
    """Of the networks of one training, left in their parameters."""

    def __init__(
        self,
        settings: Settings,
        networks: tuple[nn.Module, nn.Module, Critic],
        coverage_N: Mapping[int, torch.Tensor],
        agreement: AgreementLoss | None,
    ) -> None:
        """`networks`: compressor, decoder and critic. `coverage_N`: `grid.coverage` of every k."""
        self._loss, self._bf16 = settings.loss, mixed_precision(settings.hardware)
        self._weight = losses.adversarial_weight(settings.loss)
        self._compressor, self._decoder, self._critic = networks
        self._coverage_N, self._agreement = coverage_N, agreement
        self.micro_batches = MicroBatches(settings.training.micro_batch, settings.training.batch_size)

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self._bf16)

    def compressed(self, batch: Batch) -> CompressedBatch:
        """With the compressor's graph only where the batch is whole: parts are compressed again for their gradients."""
        if self.micro_batches.count(len(batch.x_BNC)) == 1:
            traced_BMC = self._compress(batch)
            return CompressedBatch(traced_BMC.detach(), traced_BMC)
        with torch.no_grad():
            parts = [self._compress(batch.at(part)) for part in self.micro_batches.parts(len(batch.x_BNC))]
        return CompressedBatch(torch.cat(parts), None)

    def _compress(self, batch: Batch) -> torch.Tensor:
        compress = at_size(self._compressor, batch.k)
        with self.autocast(batch.x_BNC.device):
            known = {} if batch.start_BMC is None else {"start_BMC": batch.start_BMC}
            return compress(batch.x_BNC, **known)

    def of_critic(self, samples: CriticSamples, alpha_U: torch.Tensor, images: int) -> torch.Tensor:
        """Of L_disc by the critic, on samples of so many images. All that it is made of are means over samples, and a
        part has its share of them. (3,) L_disc, critic gap and penalty."""
        self._critic.zero_grad(set_to_none=True)
        found = alpha_U.new_zeros(3)
        for part, alpha in samples.parts(alpha_U, self.micro_batches.count(images)):
            real_U, fake_U, penalty = losses.scores_and_penalty(
                self._loss.penalty, self._critic, part.real, part.fake, alpha, part.condition
            )
            l_disc = losses.critic_loss(real_U, fake_U, penalty, self._loss.lambda_gp)
            share = len(alpha) / len(alpha_U)
            (share * l_disc).backward()
            found += share * torch.stack([l_disc, real_U.mean() - fake_U.mean(), penalty]).detach()
        return found

    def of_generator(self, batch: Batch, compressed: CompressedBatch) -> torch.Tensor:
        """Of L_total by compressor and decoder. Every loss is a mean over images, of which a part has its share; the
        balance is the whole batch's. (6,) L_total, L_gen, MSE, 1 − cosine, L_agreement and balance."""
        for network in (self._compressor, self._decoder):
            network.zero_grad(set_to_none=True)
        images, weight, loss = len(batch.x_BNC), self._weight, self._loss
        parts = [
            self._part(batch.at(part), compressed.z_BMC[part], (part.stop - part.start) / images)
            for part in self.micro_batches.parts(images)
        ]
        found, of_rest, of_gen, of_ae = zip(*parts, strict=True)
        l_gen, mse, cosine, l_agreement = torch.stack(found).sum(0)
        balance, by_z_BMC = torch.ones_like(mse), torch.cat(of_rest)
        if weight > 0:
            if loss.balance == "gradient_norm":
                balance = losses.gradient_balance(torch.cat(of_ae), torch.cat(of_gen))
            by_z_BMC = by_z_BMC + weight * balance * torch.cat(of_gen)
        self._of_compressor(batch, compressed, by_z_BMC.to(compressed.z_BMC.dtype))
        l_total = weight * balance * l_gen + loss.ae_weight * (mse + cosine) + loss.agreement_weight * l_agreement
        return torch.stack([l_total, l_gen, mse, cosine, l_agreement, balance])

    def _part(self, batch: Batch, z_BMC: torch.Tensor, share: float) -> Part:
        """Of images that are this share of their batch; leaves the decoder's gradients in it."""
        z_BMC, zero = z_BMC.detach().requires_grad_(), batch.x_BNC.new_zeros(())
        with self.autocast(z_BMC.device):
            y_BNC = self._decoder(z_BMC)
        mse, cosine = losses.reconstruction_loss(batch.x_BNC, y_BNC.float(), self._coverage_N[batch.k])
        l_ae = share * (mse + cosine)
        l_agreement = share * self._agreement(z_BMC, batch.images_B) if self._agreement else zero
        l_gen, of_gen, of_ae = zero, zero, zero
        if self._weight > 0:
            l_gen, of_gen = self._of_verdict(z_BMC.detach().float(), batch.means_BMC, share)
            if self._loss.balance == "gradient_norm":
                (of_ae,) = torch.autograd.grad(l_ae, z_BMC, retain_graph=True)
        (self._loss.ae_weight * l_ae + self._loss.agreement_weight * l_agreement).backward()
        found = torch.stack([l_gen, share * mse, share * cosine, l_agreement]).detach()
        return Part(found, cast(torch.Tensor, z_BMC.grad), of_gen, of_ae)

    def _of_verdict(
        self, z_BMC: torch.Tensor, means_BMC: torch.Tensor | None, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """L_gen on every compressed token, and its gradient there; the critic's own weights get none."""
        self._critic.requires_grad_(False)
        l_gen = share * losses.generator_loss(self._critic(z_BMC.requires_grad_(), means_BMC))
        (of_gen,) = torch.autograd.grad(l_gen, z_BMC)
        self._critic.requires_grad_(True)
        return l_gen, of_gen

    def _of_compressor(self, batch: Batch, compressed: CompressedBatch, by_z_BMC: torch.Tensor) -> None:
        if compressed.traced_BMC is not None:
            compressed.traced_BMC.backward(by_z_BMC)
            return
        for part in self.micro_batches.parts(len(batch.x_BNC)):
            self._compress(batch.at(part)).backward(by_z_BMC[part])
