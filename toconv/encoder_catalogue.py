"""What open_clip and timm say of an encoder, by the name of its architecture and before it is built.

A setting of the encoder that is null is read here, once, so that whatever comes after holds numbers."""

import difflib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from toconv.errors import EncoderError, told
from toconv.paths import CONF

READ = ("name", "image_size", "patch_size", "width", "mean", "std")  # settings that may be null
GIVEN = {  # and those that say which encoder it is, by library
    "open_clip": {"architecture": "ViT-B-16-SigLIP-384", "weights": "webli"},
    "timm": {"architecture": "vit_small_patch14_dinov2", "weights": "lvd142m"},
}
VISION = {"layers": 12, "width": 768, "patch_size": 16, "image_size": 224}  # what open_clip's model configs leave out
SAFETENSORS = "model.safetensors"  # the file that timm loads from a hub where there are several
PLACES = ("rope", "rel_pos", "relative_position")  # in the names of what places tokens in every block of timm's models

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of the pixels' colours


@dataclass(frozen=True)
class Grid:
    """A vision transformer's, as its architecture has it."""

    blocks: int
    width: int
    patch_size: int
    image_size: int


def completed(encoder: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An encoder's raw settings with what its library says in place of what is null, and the mistakes: an encoder that
    is not named or not known, or settings that contradict it. Explicit `mean` and `std` beat the library's."""
    found, library = dict(encoder), encoder.get("library")
    null = [name for name in READ if found[name] is None]
    if not null or library not in GIVEN:
        return found, []
    nameless = [
        f"encoder.{key}: must be given, e.g. encoder.{key}={e}" for key, e in GIVEN[library].items() if not found[key]
    ]
    if nameless or not all(isinstance(found[key], str) for key in GIVEN[library]):
        return found, nameless
    named = {"name": Path(found["architecture"]).name.removesuffix(".json")}
    try:
        grid = known_grid(library, found["architecture"])
        mistakes = list(contradictions(found, f"encoder.architecture={found['architecture']}", asdict(grid)))
        mean, std = (
            _statistics(library, found["architecture"], found["weights"]) if {"mean", "std"} & {*null} else ((), ())
        )
    except EncoderError as error:
        return found, error.mistakes
    read = {**named, **asdict(grid), "mean": list(mean), "std": list(std)}
    return {**found, **{name: read[name] for name in null}}, [mistake for _, mistake in mistakes]


def contradictions(
    settings: Mapping[str, Any], source: str, has: Mapping[str, int | None]
) -> Iterator[tuple[str, str]]:
    """(setting, what is wrong with it) of the settings that are given and that `source` has otherwise."""
    blocks, layer = has.get("blocks"), settings["layer"]
    if blocks is not None and isinstance(layer, int) and not -blocks <= layer < blocks:
        yield ("layer", f"encoder.layer={layer}: {source} has {blocks} blocks; {-blocks} <= layer < {blocks} must hold")
    sizes = ("width", "patch_size") if settings["library"] == "timm" else ("width", "patch_size", "image_size")
    for name in sizes:  # timm resizes the position table to any picture
        theirs, asked = has.get(name), settings[name]
        if None not in (theirs, asked) and theirs != asked:
            yield name, f"encoder.{name}={asked}: {source} has {theirs}"


def known_grid(library: str, architecture: str) -> Grid:
    """Raises EncoderError where there is no such architecture, or none that gives one square grid of tokens."""
    if library == "timm":
        return timm_grid(architecture)
    vision = vision_config(architecture)
    if name := vision.get("timm_model_name"):
        size = vision.get("image_size", VISION["image_size"])
        if not isinstance(size, int):
            raise EncoderError(f"encoder.architecture={architecture}: pictures of {size} pixels give no square grid")
        return replace(timm_grid(name, architecture), image_size=size)
    return Grid(vision["layers"], vision["width"], vision["patch_size"], vision["image_size"])


def vision_config(architecture: str) -> dict[str, Any]:
    """Of the open_clip model that an architecture names, with what it leaves out where it is no model of timm's. Raises
    EncoderError where it is no vision transformer."""
    path = config_path(architecture) if architecture.endswith(".json") else _own_config(architecture)
    try:
        vision = dict(json.loads(path.read_text())["vision_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"encoder.architecture={architecture}: no open_clip model config ({told(error)})") from error
    if "timm_model_name" in vision:
        return vision
    found = {**VISION, **vision}
    if not all(isinstance(found[name], int) for name in VISION):
        raise EncoderError(f"encoder.architecture={architecture}: no vision transformer with a square grid of tokens")
    return found


def config_path(architecture: str) -> Path:
    """The open_clip model config of an architecture that is named by a file, conf/… being toconv's own."""
    own, path = CONF.parent / architecture, Path(architecture)
    if own.is_file():
        return own
    if not path.is_file():
        raise EncoderError(f"encoder.architecture={architecture}: no such open_clip model config")
    return path


def _own_config(name: str) -> Path:
    spec = importlib.util.find_spec("open_clip")
    folders = (spec and spec.submodule_search_locations) or []
    there = {path.stem: path for folder in folders for path in Path(folder, "model_configs").glob("*.json")}
    if name.replace("/", "-") not in there:
        near = _near(name, [*there])
        raise EncoderError(
            f"encoder.architecture={name}: neither a model of open_clip's nor a model config (*.json){near}"
        )
    return there[name.replace("/", "-")]


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


@cache
def timm_grid(name: str, architecture: str = "") -> Grid:
    """Of a model of timm's, which `architecture` may be another name of, at the size of picture that it comes with;
    built without memory, in half a second. Raises EncoderError that says why it is not one that serves."""
    import timm  # start-up: as torch, and where an encoder is one of timm's
    import torch

    where, (bare, _, tag) = f"encoder.architecture={architecture or name}", name.partition(".")
    if not timm.is_model(bare):
        raise EncoderError(f"{where}: no model of timm's{_near(bare, timm.list_models())}")
    if tag and not architecture:
        raise EncoderError(f"{where}: the weights are named apart: encoder.architecture={bare} encoder.weights={tag}")
    with torch.device("meta"):
        return grid_of(timm.create_model(bare, num_classes=0), where)


def grid_of(model: Any, where: str) -> Grid:
    """Of a model of timm's. Raises EncoderError, which begins with `where`, as `timm_grid` does."""
    from timm.models.eva import Eva  # start-up: as `timm_grid`
    from timm.models.vision_transformer import VisionTransformer

    kind, modules = type(model).__name__, (name for name, _ in [*model.named_modules(), *model.named_parameters()])
    if hasattr(model, "blocks") and any(part in name for name in modules for part in PLACES):
        raise EncoderError(
            f"{where}: each block of timm's {kind} places its tokens by rotary or relative positions, which compressed "
            "tokens have none of"
        )
    if not isinstance(model, VisionTransformer | Eva):
        raise EncoderError(
            f"{where}: timm's {kind} is no plain vision transformer, one square grid of tokens from first block to last"
        )
    (height, width), (rows, columns) = model.patch_embed.img_size, model.patch_embed.grid_size
    if height != width or rows != columns:
        raise EncoderError(f"{where}: a grid of {rows}×{columns} tokens is not square")
    return Grid(len(model.blocks), model.embed_dim, height // rows, height)


def pretrained_tags(library: str, architecture: str) -> dict[str, Statistics]:
    """Weights that a library knows by a tag, each with what it wants of pixels."""
    if library == "timm":
        import timm  # start-up: as `timm_grid`

        names = timm.list_pretrained(f"{architecture}.*")
        found = {name.partition(".")[2]: timm.get_pretrained_cfg(name) for name in names}
        return {tag: (tuple(c.mean), tuple(c.std)) for tag, c in found.items() if c is not None}
    from open_clip import pretrained  # start-up: three seconds

    tags = pretrained.list_pretrained_tags_by_model(architecture)
    of_open_clip = {tag: pretrained.get_pretrained_cfg(architecture, tag) for tag in tags}
    return {tag: (tuple(c["mean"]), tuple(c["std"])) for tag, c in of_open_clip.items()}


def fetched(library: str, architecture: str, tag: str, revision: str | None = None) -> Path:
    """The file of a tag's weights, from the hub or from where it was put before: the hub's newest, which the library
    then loads, or that of a commit. Raises EncoderError where it is not to be had."""
    where = f"encoder.weights={tag}: the weights of {library}'s {architecture}"
    try:
        if library == "timm":
            import timm  # start-up: as `timm_grid`
            from huggingface_hub import hf_hub_download

            of_hub = timm.get_pretrained_cfg(f"{architecture}.{tag}")
            if of_hub is None or not of_hub.hf_hub_id:
                raise EncoderError(f"{where} lie on no hub; neither encoder.sha256 nor encoder.revision can name them")
            return Path(hf_hub_download(of_hub.hf_hub_id, of_hub.hf_hub_filename or SAFETENSORS, revision=revision))
        from open_clip import pretrained  # start-up: three seconds

        known = pretrained.get_pretrained_cfg(architecture, tag)
        if revision is None:
            return Path(pretrained.download_pretrained(known))
        repository, _, file = known["hf_hub"].rpartition("/")
        return Path(pretrained.download_pretrained_from_hf(repository, file or None, revision))
    except EncoderError:
        raise
    except Exception as error:  # the hub's and the network's many kinds
        raise EncoderError(f"{where} were not fetched ({told(error)})") from error


def _statistics(library: str, architecture: str, weights: str) -> Statistics:
    """Of the weights' tag; of a file, what all tags of the architecture agree on. Raises EncoderError where that is
    nothing."""
    known = pretrained_tags(library, architecture)
    if weights in known:
        return known[weights]
    ask = "give encoder.mean=[R,G,B] encoder.std=[R,G,B], the colours' mean and spread, pixels being in [0, 1]"
    if not known:
        raise EncoderError(f"encoder.mean: {library} has no weights of {architecture}, whose pixels are unknown; {ask}")
    if len({*known.values()}) > 1:
        raise EncoderError(
            f"encoder.mean: {library}'s weights of {architecture} differ in it ({', '.join(known)}); {ask}"
        )
    return next(iter(known.values()))
