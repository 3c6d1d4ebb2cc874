"""The networks that `model.compressor.kind` and `model.decoder.kind` name."""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

from toconv.errors import RequestError
from toconv.models.cost import forward_flops, parameters
from toconv.models.linear_code import LinearCode
from toconv.models.nested import NestedDecoder
from toconv.settings import COMPRESSORS, DECODERS, CompressorSettings, DecoderSettings, named_object, width_step

FURTHEST = 0.1  # share by which a width's cost may differ from what it is to match


class Match(NamedTuple):
    """The width at which `model.compressor.match` is met best, and by how many per cent of conv's cost it is off."""

    width: int
    off_percent: float


def build_compressor(settings: CompressorSettings, channels: int, grid_size: int) -> nn.Module:
    """(B, N, channels) → (B, k², channels) tokens of a grid_size×grid_size grid. Raises as `match` does."""
    asked = sized(settings, channels, grid_size)
    return named_object(COMPRESSORS[asked.kind])(channels, grid_size, asked)


def sized(settings: CompressorSettings, channels: int, grid_size: int) -> CompressorSettings:
    """The settings with the width that they come to. Raises as `match` does."""
    if settings.match is None:
        return settings
    width = match(settings, channels, grid_size).width
    return settings.model_copy(update={"width": width, "match": None})


@cache
def match(settings: CompressorSettings, channels: int, grid_size: int) -> Match:
    """The width at which the family's branch costs most nearly what that of `conv` costs with the settings as they
    stand. Raises RequestError where the nearest is off by more than FURTHEST."""
    step = width_step(settings.kind, settings.heads)

    def cost(width: int, kind: str = settings.kind) -> int:
        return _branch_cost(settings.model_copy(update={"kind": kind, "width": width}), channels, grid_size)

    wanted = cost(settings.width, "conv")
    below = max(1, _meeting(cost, wanted, step) // step)
    costs = {n * step: cost(n * step) for n in (below, below + 1)}
    width = min(costs, key=lambda width: abs(costs[width] - wanted))
    off = costs[width] / wanted - 1
    if abs(off) > FURTHEST:
        raise RequestError(
            f"model.compressor.match={settings.match}: no width of kind={settings.kind} comes within {FURTHEST:.0%} of "
            f"the {settings.match} of kind=conv with model.compressor.width={settings.width} at k = "
            f"{settings.output_grid_size}; the nearest, {width}, is off by {off:+.0%}"
        )
    return Match(width, round(100 * off, 2))


def _meeting(cost: Callable[[int], int], wanted: int, step: int) -> int:
    """Where the parabola through three widths is `wanted`: layers from width to width make costs one."""
    (x, y), (x1, y1), (x2, y2) = ((n * step, cost(n * step) - wanted) for n in (1, 32, 64))
    slope = (y1 - y) / (x1 - x)
    curve = ((y2 - y1) / (x2 - x1) - slope) / (x2 - x)
    slope -= curve * (x1 - x)  # at x
    bottom = slope + math.sqrt(max(0.0, slope**2 - 4 * curve * y))
    return int(x - 2 * y / bottom) if bottom > 0 else x


def matched_text(settings: CompressorSettings, found: Match) -> str:
    """In a sentence."""
    k = settings.output_grid_size
    return (
        f"{k}x{k} tokens: kind={settings.kind} has width {found.width}, "
        f"{found.off_percent:+.2f} % of the {settings.match} of kind=conv with width {settings.width}"
    )


def _branch_cost(settings: CompressorSettings, channels: int, grid_size: int) -> int:
    """Of one image, without the linear code that every family may start at."""
    with torch.device("meta"):
        bare = settings.model_copy(update={"init": "pool", "match": None})
        network = build_compressor(bare, channels, grid_size)
    if settings.match == "parameters":
        return parameters(network)
    return forward_flops(network, 1, grid_size**2, channels)


def build_decoder(settings: DecoderSettings, channels: int, grid_size: int, k: int, init: str) -> nn.Module:
    """(B, k², channels) → (B, N, channels) tokens of a grid_size×grid_size grid. `init` is where the compressor
    starts."""
    return named_object(DECODERS[settings.kind])(settings, channels, grid_size, k, init)


def build_networks(
    compressor: CompressorSettings, decoder: DecoderSettings, channels: int, grid_size: int
) -> tuple[nn.Module, nn.Module]:
    """A compressor and its decoder. Where the compressor starts at a linear code, still empty, both hold the same one;
    where its family has none, the decoder starts at `pool`. A nested one has a decoder for each k."""
    made = build_compressor(compressor, channels, grid_size)
    codes = linear_codes_of(made)
    init = compressor.init if codes else "pool"
    decoders = {k: build_decoder(decoder, channels, grid_size, k, init) for k in compressor.sizes}
    back = NestedDecoder(decoders) if compressor.grid_sizes else decoders[compressor.output_grid_size]
    for name, module in [*back.named_modules()]:
        if isinstance(module, LinearCode):
            setattr(back.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], codes[module.k])
    return made, back


def linear_codes_of(network: nn.Module) -> dict[int, LinearCode]:
    """{k: the code that a network starts at}, of more than one k where it is nested; {} where it starts at none."""
    return {module.k: module for module in network.modules() if isinstance(module, LinearCode)}
