"""A family's compressor at a tiny shape, with no part of its branch at zero, for tests of its formula."""

import torch

from toconv.models.families import build_compressor
from toconv.settings import CompressorSettings

C, G, W = 6, 12, 16


def asked(kind, k, **changes):
    given = {"init": "pool", "width": W, "blocks": 1, "heads": 2, **changes}
    return CompressorSettings(kind=kind, output_grid_size=k, **given)


def opened(kind, k, **changes):
    """(compressor, its branch), random numbers in every parameter."""
    torch.manual_seed(k)
    made = build_compressor(asked(kind, k, **changes), C, G)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape) / max(parameter.shape[-1], 4) ** 0.5)
    return made, made.branch


def tokens(images=2):
    return torch.randn(images, G * G, C, generator=torch.Generator().manual_seed(0))


def windows(x_BNC, k):
    """(B, S, C) tokens of each cell's block, row by row: where k does not divide G, ceil(G/k)·k rows are the G ones,
    the nearest repeated."""
    s = -(-G // k)
    rows = [(2 * i + 1) * G // (2 * s * k) for i in range(s * k)]
    x_BGGC = x_BNC.view(len(x_BNC), G, G, -1)
    for top in range(0, s * k, s):
        for left in range(0, s * k, s):
            places = [(i, j) for i in rows[top : top + s] for j in rows[left : left + s]]
            yield torch.stack([x_BGGC[:, i, j] for i, j in places], 1)
