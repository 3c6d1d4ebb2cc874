"""What an encoder's files say of it, read without building it: open_clip takes seconds to import."""

import importlib.util
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from toconv.encoder_catalogue import contradictions, known_grid, vision_config
from toconv.errors import SAMPLES_COMMAND, EncoderError
from toconv.settings import EncoderSettings
from toconv.tokens.encoder_weights import resolve_weights

BLOCK = re.compile(r"(?:^|\.)(?:visual\.)?(?:trunk\.blocks|transformer\.resblocks|blocks)\.(\d+)\.")
PATCHES = ("visual.conv1.weight", "visual.trunk.patch_embed.proj.weight", "patch_embed.proj.weight")
NOT_JUDGED = {".npz", ".npy"}  # formats that open_clip alone reads
PACKAGED = "package:"
NESTED = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model",
)  # below which a file may have its weights, as timm reads
HUB = ("hf-hub:", "local-dir:")  # names that open_clip looks up elsewhere


@dataclass(frozen=True)
class Geometry:
    """As far as a file tells."""

    blocks: int | None = None
    width: int | None = None
    patch_size: int | None = None
    image_size: int | None = None


def check_files(settings: EncoderSettings) -> None:
    """Raises EncoderError where the files show that the encoder cannot be built as asked: no such architecture, no
    weights that can be read, a block that is not there, another width, patch or image. What they do not show, building
    it will."""
    _check_package(settings.weights)
    weights = resolve_weights(settings)
    sources = {f"encoder.architecture={settings.architecture}": _of_architecture(settings)}
    if isinstance(weights, Path):
        sources[f"encoder.weights={settings.weights}"] = _of_weights(weights)
    mistakes: dict[str, str] = {}  # one a setting: two files may say the same of it
    for name, geometry in sources.items():
        mistakes = {**dict(contradictions(settings.model_dump(), name, asdict(geometry))), **mistakes}
    if mistakes:
        raise EncoderError(*mistakes.values())


def _check_package(weights: str) -> None:
    """Raises EncoderError where package:MODULE/FILE names no file of a package that is installed."""
    module, _, name = weights.removeprefix(PACKAGED).partition("/")
    if not weights.startswith(PACKAGED):
        return
    if not (name and all(part.isidentifier() for part in module.split("."))):
        raise EncoderError(f"encoder.weights={weights}: must read {PACKAGED}MODULE/FILE")
    try:
        found = importlib.util.find_spec(module)
    except ImportError:  # of a package above it
        found = None
    folders = (found and found.submodule_search_locations) or []
    if not any(Path(folder, name).is_file() for folder in folders):
        why = f"is installed and has no file {name}" if found else f"is not installed{_how_to_install(module)}"
        raise EncoderError(f"encoder.weights={weights}: package {module} {why}")


def _how_to_install(module: str) -> str:
    return f"; run: {SAMPLES_COMMAND}" if module.replace("_", "-") in SAMPLES_COMMAND else ""


def _of_architecture(settings: EncoderSettings) -> Geometry:
    """Nothing where open_clip is to build a tower of timm's, which takes seconds."""
    name, library = settings.architecture, settings.library
    if library == "open_clip" and (name.startswith(HUB) or "timm_model_name" in vision_config(name)):
        return Geometry()
    return Geometry(**asdict(known_grid(library, name)))


def _of_weights(path: Path) -> Geometry:
    if path.suffix in NOT_JUDGED or _is_script(path):
        return Geometry()
    try:
        if path.suffix == ".onnx":
            from toconv.tokens.onnx_weights import read_geometry  # optional: onnx

            return Geometry(*read_geometry(path))
        return _of_state(_shapes(path))
    except EncoderError:
        raise
    except Exception as error:  # torch's, onnx's and safetensors' many kinds
        raise EncoderError(f"encoder.weights={path}: not readable as weights ({type(error).__name__})") from error


def _shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """{name: shape} of a file's tensors; their numbers stay on the disk where the format allows it."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open  # start-up: where it is needed

        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    state = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), content)
    return {name.removeprefix("module."): tuple(tensor.shape) for name, tensor in state.items()}


def _of_state(shapes: Mapping[str, tuple[int, ...]]) -> Geometry:
    blocks = [int(match[1]) for name in shapes if not name.startswith("transformer.") and (match := BLOCK.search(name))]
    patches = next((shapes[name] for name in PATCHES if name in shapes), None)
    whole = patches and len(patches) == 4 and not any("patch_embed.backbone" in name for name in shapes)
    width, patch_size = (patches[0], patches[-1]) if patches and whole else (None, None)
    return Geometry(max(blocks) + 1 if blocks else None, width, patch_size)


def _is_script(path: Path) -> bool:
    """A TorchScript archive, as OpenAI's weights are: open_clip reads those."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())
