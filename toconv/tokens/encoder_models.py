"""Models of open_clip and timm: built, and filled with their weights."""

# C channels, E channels of the embedding, K classes, H W pixels

import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toconv.encoder_catalogue import config_path, grid_of, timm_grid
from toconv.errors import EncoderError, told
from toconv.settings import EncoderSettings
from toconv.tokens.encoder_weights import fetched_weights, resolve_weights

CLASSES_AT_ONCE = 10  # of the zero-shot classifier; changes no number


class TimmTower(nn.Module):
    """A model of timm's in the way that open_clip holds one: a trunk, and nothing behind its own pooling."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk, self.head = trunk, nn.Identity()

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(pixels_B3HW))


def load_visual(settings: EncoderSettings) -> Any:
    """The vision tower with its weights. Raises EncoderError where they are missing or do not fit."""
    return _load_timm(settings) if settings.library == "timm" else _load_model(settings).visual


def count_blocks(settings: EncoderSettings) -> int:
    """How many blocks the architecture has; builds it without memory, and reads no weights."""
    if settings.library == "timm":
        return timm_grid(settings.architecture).blocks
    open_clip = _open_clip()
    with _quiet(), torch.device("meta"):
        return len(blocks_of(open_clip.create_model(_known_name(settings), pretrained=None, device="meta").visual))


def blocks_of(visual: Any) -> Any:
    return visual.trunk.blocks if hasattr(visual, "trunk") else visual.transformer.resblocks


def _known_name(settings: EncoderSettings) -> str:
    """open_clip's name of the architecture; where it is a model config, that is made known first."""
    open_clip = _open_clip()
    if not settings.architecture.endswith(".json"):
        return settings.architecture
    open_clip.add_model_config(config_path(settings.architecture))
    return Path(settings.architecture).stem


def load_classifier(
    settings: EncoderSettings, device: torch.device, names: Sequence[str] | None = None
) -> torch.Tensor | None:
    """(E, K) unit embeddings of the classes' names (None: ImageNet's 1000) by the encoder's own text tower, open_clip's
    zero-shot classifier with its seven templates. None where there is no text tower of CLIP's vocabulary."""
    open_clip = _open_clip()
    if settings.library == "timm" or settings.weights.endswith(".onnx"):
        return None
    model = _load_model(settings)
    if getattr(model, "vocab_size", None) != open_clip.tokenizer.SimpleTokenizer().vocab_size:
        return None  # others' tokenizers are fetched from the hub
    tokenizer = open_clip.get_tokenizer(_known_name(settings))
    with torch.autocast(device.type, enabled=False):
        classifier_EK = open_clip.build_zero_shot_classifier(
            model.float().to(device).eval(),
            tokenizer,
            names or open_clip.IMAGENET_CLASSNAMES,
            open_clip.SIMPLE_IMAGENET_TEMPLATES,
            num_classes_per_batch=CLASSES_AT_ONCE,
            device=device,
        )
    return classifier_EK.cpu()


def spoken(folders: Sequence[str]) -> list[str]:
    """Names of classes as a sentence has them: ImageNet's where a folder is called by a WordNet number of its 1000
    classes, else the folder's own with spaces for underscores."""
    from timm.data import ImageNetInfo  # start-up: two seconds

    numbers = ImageNetInfo("imagenet-1k").label_names()
    of_number = dict(zip(numbers, _open_clip().IMAGENET_CLASSNAMES, strict=True))  # both in the numbers' order
    return [of_number.get(folder) or folder.replace("_", " ") for folder in folders]


def _load_model(settings: EncoderSettings) -> Any:
    """The whole model of open_clip's, of which an ONNX file fills the vision tower alone."""
    open_clip = _open_clip()
    name, weights = _known_name(settings), _loadable(settings)
    onnx_file = weights if isinstance(weights, Path) and weights.suffix == ".onnx" else None
    try:
        with _quiet():
            # whose every weight the file fills is built without numbers: drawing them takes a second
            empty = {"pretrained": None, "device": "meta"}
            with torch.device("meta" if onnx_file else "cpu"):
                model = open_clip.create_model(name, **(empty if onnx_file else {"pretrained": str(weights)}))
    except Exception as error:  # the hub's, torch's and open_clip's many kinds
        raise _not_loaded(settings, error) from error
    if onnx_file:
        _load_onnx(model.visual, onnx_file, settings)
    where = f"encoder.architecture={settings.architecture}"
    if hasattr(model.visual, "trunk"):
        if grid_of(model.visual.trunk, where).image_size != settings.image_size:
            model.visual.set_input_size(settings.image_size)
    elif not hasattr(model.visual, "transformer"):
        raise EncoderError(f"{where}: no vision transformer with a square grid of tokens")
    return model


def _load_timm(settings: EncoderSettings) -> TimmTower:
    """The model without its classifier, its position table resized to the pictures' size."""
    import timm  # start-up: two seconds
    from timm.models import eva, vision_transformer

    timm_grid(settings.architecture)  # or why it is none that serves
    weights, size = _loadable(settings), settings.image_size
    name = f"{settings.architecture}.{weights}" if isinstance(weights, str) else settings.architecture
    try:
        model: Any = timm.create_model(name, pretrained=isinstance(weights, str), num_classes=0, img_size=size)
        if isinstance(weights, str):
            return TimmTower(model)
        family = eva if isinstance(model, eva.Eva) else vision_transformer
        state = family.checkpoint_filter_fn(timm.models.load_state_dict(str(weights), weights_only=True), model)
        heads = tuple(f"{name}." for name in ("head", "head_dist"))
        model.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith(heads)})
    except Exception as error:  # the hub's, torch's and timm's many kinds
        raise _not_loaded(settings, error) from error
    return TimmTower(model)


def _loadable(settings: EncoderSettings) -> Path | str:
    """As `resolve_weights`; the file where a tag's weights are those of one of the hub's commits."""
    return fetched_weights(settings) if settings.revision else resolve_weights(settings)


def _not_loaded(settings: EncoderSettings, error: Exception) -> EncoderError:
    return EncoderError(
        f"encoder.architecture={settings.architecture}, encoder.weights={settings.weights}: "
        f"not loaded ({type(error).__name__}: {told(error)})"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip warns of random weights where the weights come afterwards. One thread at a time: what is silenced here
    is silenced for all."""
    with _silence:
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            logging.disable(logging.NOTSET)


_silence = threading.Lock()


def _load_onnx(visual: Any, weights: Path, settings: EncoderSettings) -> None:
    from toconv.tokens.onnx_weights import read_timm_state  # optional: onnx

    visual.trunk.set_input_size(img_size=settings.image_size)
    try:
        visual.trunk.load_state_dict(read_timm_state(weights, settings.grid_size), strict=True, assign=True)
    except RuntimeError as error:
        raise EncoderError(f"{weights}: does not fit {settings.architecture}: {str(error).splitlines()[-1]}") from error


def pools_class_token(visual: Any) -> bool:
    """Whether the embedding is made from the class token alone, after blocks that `_class_token_after` knows."""
    from open_clip.transformer import ResidualAttentionBlock  # start-up: as `_open_clip`
    from timm.models.vision_transformer import Block, VisionTransformer

    if hasattr(visual, "trunk"):
        pools_one = type(visual.trunk) is VisionTransformer and visual.trunk.attn_pool is None
        known, pooling = Block, pools_one and visual.trunk.global_pool == "token"
    else:
        known, pooling = ResidualAttentionBlock, visual.attn_pool is None and visual.pool_type == "tok"
    return pooling and all(type(block) is known for block in blocks_of(visual))


def _open_clip() -> Any:
    import open_clip  # start-up: three seconds, and a store that is there needs none of it

    return open_clip
