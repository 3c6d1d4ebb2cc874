"""Which weights an encoder has: where they lie, and what names them for ever."""

import importlib.util
import json
from pathlib import Path

import torch

from toconv.encoder_catalogue import config_path, fetched, pretrained_tags
from toconv.errors import SAMPLES_COMMAND, EncoderError
from toconv.hardware import bf16_is_fast
from toconv.paths import sha256
from toconv.settings import EncoderSettings

TIMM = "timm:"  # before the name of an architecture that timm builds


def resolve_weights(settings: EncoderSettings) -> Path | str:
    """The weights' file, or their library's tag. Raises EncoderError that says what to do where it is missing, or that
    `encoder.revision` is given for a file."""
    found = _resolved(settings)
    if settings.revision and isinstance(found, Path):
        raise EncoderError(
            f"encoder.revision={settings.revision}: encoder.weights={settings.weights} is a file; only a tag's weights "
            "lie on a hub, which has revisions"
        )
    return found


def _resolved(settings: EncoderSettings) -> Path | str:
    weights = settings.weights
    if weights.startswith("package:"):
        module, _, rest = weights.removeprefix("package:").partition("/")
        found = importlib.util.find_spec(module)
        folders = (found and found.submodule_search_locations) or []
        path = Path(folders[0], rest) if folders else None
        if path is None or not path.is_file():
            raise EncoderError(f"encoder.weights={weights}: package {module} is not installed; run: {SAMPLES_COMMAND}")
        return path
    if Path(weights).is_file():
        return Path(weights).resolve()
    tags = [] if settings.architecture.endswith(".json") else pretrained_tags(settings.library, settings.architecture)
    if weights not in tags:
        there = f" ({', '.join(tags)})" if tags else ""
        raise EncoderError(
            f"encoder.weights={weights}: neither a file nor one of {settings.library}'s tags for "
            f"{settings.architecture}{there}"
        )
    return weights


def weights_identity(settings: EncoderSettings) -> str:
    """What the weights are: the file's sha256, or library, model and tag. Raises EncoderError where `encoder.sha256` is
    given and the file's differs."""
    weights = resolve_weights(settings)
    if isinstance(weights, str):
        commit = f"@{settings.revision}" if settings.revision else ""
        return f"{settings.library}:{settings.architecture}:{weights}{commit}"
    digest = sha256(weights)
    if settings.sha256 and settings.weights.startswith("package:") and digest != settings.sha256:
        raise EncoderError(f"{weights}: sha256 is {digest}, expected {settings.sha256}; install the package again")
    return f"sha256:{digest}"


def fetched_weights(settings: EncoderSettings) -> Path:
    """The weights' file, from the hub where they are a library's tag. Raises EncoderError where there is none."""
    weights = resolve_weights(settings)
    if isinstance(weights, Path):
        return weights
    return fetched(settings.library, settings.architecture, weights, settings.revision)


def unvouched(settings: EncoderSettings) -> str:
    """What to say of weights that a hub gives and no checksum is known of; nothing of others."""
    if settings.sha256 or isinstance(resolve_weights(settings), Path):
        return ""
    sent = f"what the hub has at {settings.revision}" if settings.revision else "whatever the hub sends"
    return f"; no checksum is given (encoder.sha256), so the weights {settings.weights} are {sent}"


def architecture_identity(settings: EncoderSettings) -> str:
    """The architecture's name, of timm's as timm:NAME, or the content of its model config."""
    if settings.library == "timm":
        return f"{TIMM}{settings.architecture}"
    if settings.architecture.endswith(".json"):
        return json.dumps(json.loads(config_path(settings.architecture).read_text()), sort_keys=True)
    return settings.architecture


def resolve_dtype(settings: EncoderSettings, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where that is faster, fp32 elsewhere."""
    if settings.dtype == "auto":
        return torch.bfloat16 if bf16_is_fast(device) else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[settings.dtype]
