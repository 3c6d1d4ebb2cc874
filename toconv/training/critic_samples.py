"""What a critic compares: samples of original tokens and of compressed ones, in equal number and spacing."""

# B batch, N = g*g, M = k*k, S scored cells of an image, U critic samples of a batch, C channels

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch

from toconv import grid
from toconv.settings import CriticSettings


@dataclass(frozen=True)
class CriticSamples:
    """(U, C) tokens, or (U, M, C) grids; `condition` stands beside both, where the head has one."""

    real: torch.Tensor
    fake: torch.Tensor
    condition: torch.Tensor | None

    def parts(self, alpha_U: torch.Tensor, count: int) -> Iterator[tuple["CriticSamples", torch.Tensor]]:
        """`count` nearly equal parts, or fewer where there are fewer samples, each with its numbers of `alpha_U`."""
        alphas = alpha_U.chunk(count)
        conditions = repeat(None, len(alphas)) if self.condition is None else self.condition.chunk(count)
        found = zip(self.real.chunk(count), self.fake.chunk(count), conditions, strict=True)
        return zip((CriticSamples(*tensors) for tensors in found), alphas, strict=True)


def draw_critic_samples(
    settings: CriticSettings,
    x_BNC: torch.Tensor,
    fake_BMC: torch.Tensor,
    means_BMC: torch.Tensor | None,
    generator: torch.Generator,
) -> CriticSamples:
    """Fresh critic samples of one batch. `means_BMC`: the cells' means, for `conditional` alone. `token`: at
    `tokens_per_image` cells of each image an original token of the cell against its compressed one. `conditional`: the
    same, beside the cell's mean. `grid`: a strided k×k sub-lattice of each image against its compressed grid. `pairs`
    says which real and fake samples the penalty interpolates: `matched` ones are of the same cell (grid: of the same
    image), `independent` ones are paired by chance, as arXiv 1704.00028 has it."""
    k = grid.side(fake_BMC)
    condition = None
    if settings.head == "grid":
        real, fake = grid.random_lattice(x_BNC, k, generator), fake_BMC
    else:
        cells_BS = grid.draw_cells(len(x_BNC), k, settings.tokens_per_image, generator)
        real = grid.random_in_cell(x_BNC, k, cells_BS, generator).flatten(0, 1)
        fake = grid.take(fake_BMC, cells_BS).flatten(0, 1)
        if means_BMC is not None:
            condition = grid.take(means_BMC, cells_BS).flatten(0, 1)
    if settings.pairs == "independent":
        real = real[torch.randperm(len(real), generator=generator, device=generator.device)]
    return CriticSamples(real, fake, condition)
