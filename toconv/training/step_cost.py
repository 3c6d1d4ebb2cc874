"""What a training step costs, counted as `gradients` runs it, on networks without memory."""

# B batch, N = g*g original tokens, M = k*k compressed tokens, U critic samples, C channels

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from toconv.models.cost import flops_of, trained_flops
from toconv.models.critic import Critic
from toconv.models.nested import at_size
from toconv.settings import Settings
from toconv.training.losses import adversarial_weight
from toconv.training.micro_batches import MicroBatches
from toconv.training.starts import kept_codes


def step_flops(settings: Settings, networks: tuple[nn.Module, nn.Module, Critic], k: int, images: int) -> int:
    """Floating-point operations of the matrix products of a generator step and its critic steps, in a training on so
    many images. `networks`: compressor, decoder and critic, on the meta device. What `loss.agreement_weight` runs of
    the encoder is not counted."""
    compressor, decoder, critic = networks
    batch, g, c = settings.training.batch_size, settings.encoder.grid_size, settings.encoder.width
    x_BNC, z_BMC = (torch.zeros(batch, tokens, c, device="meta") for tokens in (g * g, k * k))
    compress = at_size(compressor, k)
    if kept_codes(compressor, images, c):
        compress = partial(compress, start_BMC=z_BMC)
    counted = trained_flops(compress, x_BNC) + trained_flops(decoder, z_BMC.detach().requires_grad_())
    if MicroBatches(settings.training.micro_batch, batch).divides:
        counted += flops_of(compress, x_BNC)  # before the critic's steps, without a graph
    if adversarial_weight(settings.loss) == 0:
        return counted
    if settings.loss.balance == "gradient_norm":
        counted += flops_of(decoder, z_BMC)  # from L_ae back to the compressed tokens
    condition = z_BMC if settings.model.critic.head == "conditional" else None
    counted += 2 * flops_of(lambda z_BMC: critic(z_BMC, condition), z_BMC)  # L_gen, and back
    return counted + settings.training.n_critic * _critic_step_flops(settings, critic, z_BMC)


def _critic_step_flops(settings: Settings, critic: Critic, z_BMC: torch.Tensor) -> int:
    """Of `losses.scores_and_penalty` and its backward pass. The penalty's gradient takes as much as a backward pass to
    `judge`'s input; what it sends back passes that gradient's graph and `judge`'s own, each to inputs and weights."""
    asked = settings.model.critic
    x_U = z_BMC if asked.head == "grid" else z_BMC[:, : asked.tokens_per_image].flatten(0, 1)
    both_U = torch.cat([x_U, x_U])
    condition_U = both_U if asked.head == "conditional" else None
    h_U = critic.embed(x_U, None if condition_U is None else x_U).detach().requires_grad_()
    return (
        trained_flops(lambda both_U: critic.embed(both_U, condition_U), both_U)
        + (2 + 2) * trained_flops(critic.judge, h_U)  # of real and fake; of the penalty
        + trained_flops(lambda h_U: h_U @ critic.embedding_WC, h_U)
    )
