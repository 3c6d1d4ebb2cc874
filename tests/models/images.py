"""Tokens of images that have structure in space, for tests of what is fitted on them."""

import torch

from toconv import grid


class Images:
    """Standardised, in batches."""

    def __init__(self, images=60, g=12, c=4, seed=0, batch=7):
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.randn(c, c, generator=torch.Generator().manual_seed(99))  # of every seed alike
        coarse = torch.randn(images, 16, c, generator=generator) @ mixed
        x = grid.resize(coarse, g) + 0.3 * torch.randn(images, g * g, c, generator=generator)
        self.x, self.images, self.batch = (x - x.mean((0, 1))) / x.std((0, 1)), images, batch

    def __iter__(self):
        return iter(self.x.split(self.batch))

    def folds(self, count):
        return torch.arange(self.images) * count // self.images


def fvu(x, y):
    return ((x - y).square().sum() / x.square().sum()).item()
