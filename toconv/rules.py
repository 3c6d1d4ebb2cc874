"""Rules between settings: what a combination of values, each in its range, must hold besides."""

import importlib.util
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from toconv.ranges import MOST_ON_A_SIDE, MOST_WEIGHT
from toconv.settings import AGREEMENT_WEIGHT, BLOCK_NEEDED, GRID_SIZE, GRID_SIZES, HEADED, NESTED, SOURCES, width_step
from toconv.tracking_address import address_mistake

OBJECT_STORES = {  # the parameters that the address of one may have, by its kind
    "s3": {"endpoint_override", "region", "scheme"},
    "gs": {"endpoint_override", "scheme"},
    "file": set[str](),
}


def cross_field_mistakes(raw: dict[str, Any]) -> list[str]:
    """Every rule that is broken. Takes the raw values, so that they are told together with wrong ranges; a rule whose
    settings are themselves wrong says nothing, since the field's own check names them."""
    mistakes = []
    for rule in (
        *(_grid_mistakes, _nested_mistakes, _compressor_mistakes, _decoder_mistakes),
        *(_picture_mistakes, _store_mistakes, _loss_mistakes, _graph_mistakes, _experiment_mistakes),
    ):
        with suppress(KeyError, TypeError, ValueError, ArithmeticError):
            mistakes += list(rule(raw))
    return mistakes


def _grid_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    k, encoder = raw["model"]["compressor"]["output_grid_size"], raw["encoder"]
    image, patch = encoder["image_size"], encoder["patch_size"]
    g = image // patch
    if min(image, patch) < 1:
        return
    if not 0 < g <= MOST_ON_A_SIDE:
        yield (
            f"encoder.image_size={image}: must be 1 to {MOST_ON_A_SIDE} times encoder.patch_size={patch}, the tokens "
            "along a side"
        )
    elif isinstance(k, int) and k >= g:
        yield f"{GRID_SIZE}={k}: must be below the encoder's grid, 1 <= k < {g}"


def _nested_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    asked, encoder = raw["model"]["compressor"], raw["encoder"]
    k, sizes, g = asked["output_grid_size"], asked["grid_sizes"], encoder["image_size"] // encoder["patch_size"]
    if not sizes:
        if sizes is None and asked["kind"] == NESTED:
            yield f"{GRID_SIZES}=null: kind={NESTED} needs every k that it serves, e.g. {GRID_SIZES}=[4,6,8,12]"
        return
    told = f"{GRID_SIZES}=[{','.join(map(str, sizes))}]"
    if asked["kind"] != NESTED:
        yield f"{told}: is of kind={NESTED} alone; kind={asked['kind']} has {GRID_SIZE}"
    elif list(sizes) != sorted(set(sizes)):
        yield f"{told}: must rise, each k once"
    elif sizes[-1] >= g:
        yield f"{told}: each must be below the encoder's grid, 1 <= k < {g}"
    elif k not in sizes:
        yield f"{GRID_SIZE}={k}: must be one of {told}: a trial's own row is of that k"
    if asked["kind"] == NESTED and raw["hardware"]["compile"] is True:
        yield f"hardware.compile=true: kind={NESTED} draws its k in each step, which is not compiled"


def _compressor_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    asked = raw["model"]["compressor"]
    kind, width, heads = asked["kind"], asked["width"], asked["heads"]
    if kind in BLOCK_NEEDED and asked["blocks"] == 0:
        yield f"model.compressor.blocks=0: must be at least 1 for kind={kind}"
    step = width_step(kind, heads)
    if asked["match"] is None and width % step:  # with it, the width is found
        if kind in HEADED:
            yield f"model.compressor.heads={heads}: must divide model.compressor.width={width} for kind={kind}"
        else:
            yield f"model.compressor.width={width}: must be a multiple of {step} for kind={kind}"


def _decoder_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    heads, width = raw["model"]["decoder"]["heads"], raw["model"]["decoder"]["width"]
    if raw["model"]["decoder"]["kind"] == "attention" and width % heads:
        yield f"model.decoder.heads={heads}: must divide model.decoder.width={width} for kind=attention"


def _picture_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    data = raw["data"]
    source = SOURCES.get(data["kind"])
    if source and source.root and data[source.root] is None:
        yield f"data.{source.root}: data={data['kind']} needs it, e.g. data.{source.root}=/path/to/pictures"
    val, test = data["val_fraction"], data["test_fraction"]
    if val + test >= 1 and data["kind"] != "imagenet":
        yield f"data.val_fraction + data.test_fraction must be below 1, got {val} + {test}"


def _store_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    url = raw["store"]["url"]
    if not isinstance(url, str):
        return
    parts = urlsplit(url)
    kind, _, _ = url.partition(":")
    if kind not in OBJECT_STORES:
        yield f"store.url: must begin with {', '.join(f'{name}://' for name in OBJECT_STORES)}"
    elif (parts.netloc or not parts.path.strip("/")) if kind == "file" else not parts.netloc:
        yield f"store.url: must read file:///FOLDER, or {'s3' if kind == 'file' else kind}://BUCKET/PREFIX"
    elif "#" in url:
        yield "store.url: has a #, and nothing may follow its folder but parameters; a # of a name is written %23"
    elif unknown := sorted({key for key, _ in parse_qsl(parts.query, keep_blank_values=True)} - OBJECT_STORES[kind]):
        may = f"its parameters may be {', '.join(sorted(OBJECT_STORES[kind]))}"
        may = may if OBJECT_STORES[kind] else f"an address of {kind}:// may have no parameters"
        yield f"store.url: {may}; it has {', '.join(unknown)}"


def _loss_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    critic, loss = raw["model"]["critic"], raw["loss"]
    if critic["head"] == "conditional" and critic["pairs"] == "independent":
        yield (
            "model.critic.pairs=independent: head=conditional needs matched pairs, since both stand beside one "
            "cell's mean"
        )
    weight, ratio = loss["ae_weight"], loss["log_ratio"]
    if weight == loss["agreement_weight"] == 0 and (ratio is not None or loss["wgan_weight"] == 0):
        zero = "loss.wgan_weight" if ratio is None else "with loss.log_ratio the weight of L_gen"
        yield f"{zero}, loss.ae_weight and loss.agreement_weight are all 0: nothing would be trained"
    elif ratio is not None and math.isfinite(ratio) and math.log10(weight) + ratio > math.log10(MOST_WEIGHT):
        yield (
            f"loss.log_ratio={ratio}: the weight of L_gen, loss.ae_weight={weight} times 10 to that power, must be at "
            f"most {MOST_WEIGHT:g}"
        )


def _graph_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    if raw["hardware"]["cuda_graph"] is not True:
        return
    why = "hardware.cuda_graph=true: a captured step is the same at each replay, and"
    if raw["model"]["compressor"]["kind"] == NESTED:
        yield f"{why} kind={NESTED} draws its k in each"
    if raw["loss"]["agreement_weight"] > 0:
        yield f"{why} {AGREEMENT_WEIGHT}={raw['loss']['agreement_weight']} reads what belongs to the images of each"


def _experiment_mistakes(raw: dict[str, Any]) -> Iterator[str]:
    address = raw["experiment"]["tracking_uri"]
    if isinstance(address, str) and (mistake := address_mistake(address)):
        yield f"experiment.tracking_uri: {mistake}"
    for setting, package in (("use_wandb", "wandb"), ("system_metrics", "psutil")):
        if raw["experiment"][setting] is True and not _installed(package):
            yield f"experiment.{setting}=true: needs the package {package}: pip install {package}"


def _installed(package: str) -> bool:
    """A folder of that name in the current directory is no package."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
