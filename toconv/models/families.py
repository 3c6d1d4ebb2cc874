"""The networks that `model.compressor.kind` and `model.decoder.kind` name."""

from torch import nn

from toconv.models.linear_code import LinearCode
from toconv.settings import COMPRESSORS, DECODERS, CompressorSettings, DecoderSettings, named_object


def build_compressor(settings: CompressorSettings, channels: int, grid_size: int) -> nn.Module:
    """(B, N, channels) → (B, k², channels) tokens of a grid_size×grid_size grid."""
    return named_object(COMPRESSORS[settings.kind])(channels, grid_size, settings)


def build_decoder(settings: DecoderSettings, channels: int, grid_size: int, k: int, init: str) -> nn.Module:
    """(B, k², channels) → (B, N, channels) tokens of a grid_size×grid_size grid. `init` is where the compressor
    starts."""
    return named_object(DECODERS[settings.kind])(settings, channels, grid_size, k, init)


def build_networks(
    compressor: CompressorSettings, decoder: DecoderSettings, channels: int, grid_size: int
) -> tuple[nn.Module, nn.Module]:
    """A compressor and its decoder. Where the compressor starts at a linear code, still empty, both hold the same one;
    where its family has none, the decoder starts at `pool`."""
    made = build_compressor(compressor, channels, grid_size)
    code = linear_code_of(made)
    k, init = compressor.output_grid_size, compressor.init if code else "pool"
    back = build_decoder(decoder, channels, grid_size, k, init)
    for name, module in [*back.named_modules()]:
        if isinstance(module, LinearCode):
            setattr(back.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], code)
    return made, back


def linear_code_of(network: nn.Module) -> LinearCode | None:
    """The code that a network starts at."""
    return next((module for module in network.modules() if isinstance(module, LinearCode)), None)
