"""A training's checkpoint → a compressor that others can use."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from toconv import __version__, checkpoint
from toconv.errors import CheckpointError, first_line
from toconv.export.module import FORMAT, EncoderFacts, TokenCompressor
from toconv.paths import TrialPaths
from toconv.settings import EncoderSettings, Settings
from toconv.tokens.encoder_models import count_blocks
from toconv.tokens.encoder_weights import architecture_identity, weights_identity

SHARED = ("name", "layer", "image_size", "patch_size", "width", "mean", "std")  # of settings and facts


@cache
def encoder_facts(settings: EncoderSettings, blocks: int | None = None) -> EncoderFacts:
    """What the encoder of these settings is, counting its blocks where they are not known. Raises EncoderError where
    its weights are missing."""
    return EncoderFacts(
        architecture=architecture_identity(settings),
        weights=weights_identity(settings),
        blocks=blocks or count_blocks(settings),
        **{name: getattr(settings, name) for name in SHARED},
    )


def from_checkpoint(path: Path) -> tuple[TokenCompressor, Settings]:
    """The compressor of a training's checkpoint, in eval mode, and the training's settings. `path` is a .pt file or the
    folder of a trial, whose latest.pt is the epoch that results.csv reports. Raises CheckpointError where the file is
    missing, damaged or of another version, EncoderError where the encoder's weights are missing."""
    file = TrialPaths(path).latest if path.is_dir() else path
    state = checkpoint.load(file)
    settings = Settings.model_validate(state["settings"])
    return build_module(state, settings, file), settings


def build_module(
    state: Mapping[str, Any], settings: Settings, path: Path, about: Mapping[str, Any] | None = None
) -> TokenCompressor:
    """The compressor of a checkpoint's content; `about` are further entries of its config."""
    model = settings.model
    made_by = {"library": "toconv", "format": FORMAT, "toconv": __version__}
    config = {
        **made_by,
        "k": model.compressor.output_grid_size,
        "encoder": asdict(encoder_facts(settings.encoder, state["store"]["blocks"])),
        "compressor": model.compressor.model_dump(mode="json", exclude={"output_grid_size"}),
        "decoder": model.decoder.model_dump(mode="json"),
        "fingerprint": state["store"]["fingerprint"],
        **(about or {}),
    }
    compressor = TokenCompressor(config)
    try:
        for name in ("compressor", "decoder"):
            getattr(compressor, name).load_state_dict(state[name])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit this version's networks: {first_line(error)}") from error
    for name in ("mean_C", "std_C"):
        getattr(compressor, name).copy_(state["store"][name])
    return compressor.eval()
