"""A training's checkpoint → a compressor that others can use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toconv.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toconv.module import EncoderFacts, TokenCompressor
    from toconv.settings import EncoderSettings, Settings

SHARED = ("name", "layer", "image_size", "patch_size", "width", "mean", "std")  # of settings and facts


def encoder_facts(settings: EncoderSettings) -> EncoderFacts:
    """What the encoder of these settings is. Raises EncoderError where its weights are missing."""
    from toconv.module import EncoderFacts
    from toconv.tokens.encoder import architecture_identity, count_blocks, weights_identity

    return EncoderFacts(
        architecture=architecture_identity(settings), weights=weights_identity(settings),
        blocks=count_blocks(settings), **{name: getattr(settings, name) for name in SHARED})


def from_checkpoint(path: Path, about: Mapping[str, Any] | None = None) -> TokenCompressor:
    """The compressor of a training's checkpoint, in eval mode; `about` are further entries of its config.

    Raises CheckpointError where the file is missing, damaged or of another version, EncoderError where the encoder's
    weights are missing.
    """
    from toconv.checkpoint import load
    from toconv.settings import Settings

    state = load(path)
    return build(state, Settings.model_validate(state["settings"]), path, about or {})


def build(state: Mapping[str, Any], settings: Settings, path: Path, about: Mapping[str, Any]) -> TokenCompressor:
    from dataclasses import asdict

    from toconv import __version__
    from toconv.module import FORMAT, TokenCompressor

    model = settings.model
    config = {
        "library": "toconv", "format": FORMAT, "toconv": __version__, "k": model.compressor.output_grid_size,
        "encoder": asdict(encoder_facts(settings.encoder)),
        "compressor": model.compressor.model_dump(mode="json", exclude={"output_grid_size"}),
        "decoder": model.decoder.model_dump(mode="json"), "fingerprint": state["tokens"]["fingerprint"], **about}
    compressor = TokenCompressor(config)
    try:
        for name in ("compressor", "decoder"):
            getattr(compressor, name).load_state_dict(state[name])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit this version's networks: "
                              f"{str(error).splitlines()[0]}") from error
    for name in ("mean_C", "std_C"):
        getattr(compressor, name).copy_(state["tokens"][name])
    return compressor.eval()
