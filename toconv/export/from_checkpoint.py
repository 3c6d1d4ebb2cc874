"""A training's checkpoint → a compressor that others can use."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from toconv import __version__, checkpoint, config
from toconv.errors import CheckpointError, RequestError, first_line
from toconv.export.module import FORMAT, EncoderFacts, TokenCompressor
from toconv.models.families import sized
from toconv.paths import TrialPaths
from toconv.settings import GRID_SIZE, EncoderSettings, Settings
from toconv.tokens.encoder_models import count_blocks
from toconv.tokens.encoder_weights import TIMM, architecture_identity, weights_identity

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


def encoder_of(compressor: TokenCompressor, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an export's encoder: those of its name in conf/encoder, or what the export itself says. Raises
    RequestError where neither says which weights to take."""
    facts, k = compressor.encoder, {GRID_SIZE: compressor.k}
    library = "timm" if facts.architecture.startswith(TIMM) else "open_clip"
    if facts.name in config.groups()["encoder"] or "encoder" in given:
        return {"encoder": facts.name, **k}
    known = {f"encoder.{name}": getattr(facts, name) for name in SHARED}
    known |= {f"encoder.{name}": list(getattr(facts, name)) for name in ("mean", "std")}
    if not facts.architecture.startswith("{"):
        known["encoder.architecture"] = facts.architecture.removeprefix(TIMM)
    if facts.weights.startswith(f"{library}:"):
        known["encoder.weights"] = facts.weights.rsplit(":", 1)[1]
    missing = [key for key in ("encoder.architecture", "encoder.weights") if key not in {**known, **given}]
    if missing:
        raise RequestError(
            f"{facts.name}: conf/encoder has no encoder of that name; say which it is: "
            f"{' '.join(f'{key}=FILE' for key in missing)} (weights {facts.weights})"
        )
    return {**known, "encoder.library": library, "encoder.sha256": None, **k}


def from_checkpoint(path: Path) -> tuple[TokenCompressor, Settings]:
    """The compressor of a training's checkpoint, in eval mode, and the training's settings. `path` is a .pt file or the
    folder of a trial, whose latest.pt is the epoch that results.csv reports. Raises CheckpointError where the file is
    missing, damaged or of another version, EncoderError where the encoder's weights are missing."""
    file = TrialPaths(path).latest if path.is_dir() else path
    state = checkpoint.load(file)
    settings = config.of_checkpoint(state["settings"])
    return build_module(state, settings, file), settings


def build_module(
    state: Mapping[str, Any], settings: Settings, path: Path, about: Mapping[str, Any] | None = None
) -> TokenCompressor:
    """The compressor of a checkpoint's content; `about` are further entries of its config."""
    model, encoder = settings.model, settings.encoder
    asked = sized(model.compressor, encoder.width, encoder.grid_size)  # what it came to, whatever a later conv costs
    made_by = {"library": "toconv", "format": FORMAT, "toconv": __version__}
    about_it = {
        **made_by,
        "k": model.compressor.output_grid_size,
        "encoder": asdict(encoder_facts(encoder, state["store"]["blocks"])),
        "compressor": asked.model_dump(mode="json", exclude={"output_grid_size", "match"}),
        "decoder": model.decoder.model_dump(mode="json"),
        "fingerprint": state["store"]["fingerprint"],
        **(about or {}),
    }
    compressor = TokenCompressor(about_it)
    try:
        for name in ("compressor", "decoder"):
            getattr(compressor, name).load_state_dict(state[name])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit this version's networks: {first_line(error)}") from error
    for name in ("mean_C", "std_C"):
        getattr(compressor, name).copy_(state["store"][name])
    return compressor.eval()
