"""The networks that `model.compressor.kind` and `model.decoder.kind` name."""

from torch import nn

from toconv.settings import COMPRESSORS, DECODERS, CompressorSettings, DecoderSettings, named_object


def build_compressor(settings: CompressorSettings, channels: int, grid_size: int) -> nn.Module:
    """(B, N, channels) → (B, k², channels) tokens of a grid_size×grid_size grid. With `init=pca` it has a `code`."""
    return named_object(COMPRESSORS[settings.kind])(channels, grid_size, settings)


def build_decoder(settings: DecoderSettings, channels: int, grid_size: int, k: int, init: str) -> nn.Module:
    """(B, k², channels) → (B, N, channels) tokens of a grid_size×grid_size grid. `init` is the compressor's; with `pca`
    it has a `start` that takes the code's numbers."""
    return named_object(DECODERS[settings.kind])(settings, channels, grid_size, k, init)
