"""Perception: how far compressed tokens lie from the distribution of original ones.

Sliced Wasserstein distance (Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3) of order 2 between sets of standardised
tokens, over fixed random directions. Every set has one token of each held-out image, at a random cell or position: the
number of samples is the same at every k, and samples are independent. Reported as the excess over the distance between
two such sets of originals."""

# I held-out images, R repeated draws, P directions, N tokens of an image's grid, C channels

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch

DIRECTIONS, DRAWS, SEED = 256, 16, 20240
MOST_IMAGES = 4096  # the first of the split


@dataclass(frozen=True)
class PerceptionReference:
    """What is the same for every trial on the same held-out images."""

    directions_CP: torch.Tensor
    sorted_RIP: torch.Tensor  # draws of originals along each direction, sorted over images
    floor: torch.Tensor  # distance between two independent draws of originals

    @classmethod
    def from_batches(cls, batches: Iterable[torch.Tensor]) -> PerceptionReference:
        """From all (B, N, C) batches of the held-out originals."""
        batches = iter(batches)
        first = next(batches)
        generator = torch.Generator().manual_seed(SEED)
        directions_CP = torch.randn(first.shape[-1], DIRECTIONS, generator=generator)
        directions_CP = (directions_CP / directions_CP.norm(dim=0)).to(first.device)
        ours, others = Draws(directions_CP, SEED + 1), Draws(directions_CP, SEED + 2)
        for x_BNC in itertools.chain([first], batches):
            ours.add(x_BNC)
            others.add(x_BNC)
        sorted_RIP = ours.sorted()
        return cls(directions_CP, sorted_RIP, sliced_wasserstein(others.sorted(), sorted_RIP))

    def draws(self) -> Draws:
        """An empty collection for the tokens of one compressor; every trial draws the same cells."""
        return Draws(self.directions_CP, SEED + 3)

    def excess(self, draws: Draws) -> torch.Tensor:
        """Distance of the collected tokens from the originals, less the floor."""
        return sliced_wasserstein(draws.sorted(), self.sorted_RIP) - self.floor


class Draws:
    """R sets of tokens along each direction, one token of each image in each set."""

    def __init__(self, directions_CP: torch.Tensor, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        places_IR = torch.rand(MOST_IMAGES, DRAWS, generator=generator)  # in [0, 1), of each image's grid
        self._directions_CP, self._places_IR = directions_CP, places_IR.to(directions_CP.device)
        self._projected: list[torch.Tensor] = []
        self._images = 0

    def add(self, tokens_BNC: torch.Tensor) -> None:
        """Takes batches in the split's order; images past MOST_IMAGES are left out."""
        places_BR = self._places_IR[self._images : self._images + len(tokens_BNC)]
        if len(places_BR) == 0:
            return
        tokens_BNC = tokens_BNC[: len(places_BR)]
        self._images += len(tokens_BNC)
        index_BR1 = (places_BR * tokens_BNC.shape[1]).long().unsqueeze(-1)
        drawn_BRC = tokens_BNC.gather(1, index_BR1.expand(-1, -1, tokens_BNC.shape[-1]))
        with torch.autocast(drawn_BRC.device.type, enabled=False):
            self._projected.append((drawn_BRC.float() @ self._directions_CP).transpose(0, 1))

    def sorted(self) -> torch.Tensor:
        """(R, I, P) values, sorted over images."""
        return torch.cat(self._projected, dim=1).sort(dim=1).values


def sliced_wasserstein(a_RIP: torch.Tensor, b_RIP: torch.Tensor) -> torch.Tensor:
    """Mean over draws of the root of the mean over directions of squared 1-D W₂; inputs sorted over images."""
    return (a_RIP - b_RIP).square().mean(dim=(1, 2)).sqrt().mean()
