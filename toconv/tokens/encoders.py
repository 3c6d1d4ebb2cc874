"""Frozen vision transformers. The only module that knows open_clip."""

# B images, N = g*g tokens, C channels, H W pixels

import importlib.util
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from toconv.errors import SAMPLES_COMMAND, EncoderError, told
from toconv.hardware import bf16_is_fast
from toconv.paths import CONF, sha256
from toconv.settings import EncoderSettings

CLASSES_AT_ONCE = 10  # of the zero-shot classifier; changes no number


class FrozenEncoder(nn.Module):
    """(B, 3, H, W) normalised pixels → the tokens (B, N, C) of one block and its class token (B, C)."""

    visual: Any  # open_clip's and timm's towers and their blocks, here and below: their libraries declare no types

    def __init__(self, visual: Any, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.visual, self.layer = visual.to(dtype).eval().requires_grad_(False), layer

    @property
    def dtype(self) -> torch.dtype:
        return next(self.visual.parameters()).dtype

    @torch.inference_mode()
    def forward(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.visual.forward_intermediates(
            pixels_B3HW.to(self.dtype),
            indices=[self.layer],
            stop_early=True,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        return found["image_intermediates"][0], found["image_intermediates_prefix"][0][:, 0]


class EncoderTail(nn.Module):
    """What the encoder does after `layer`: tokens (B, N, C), in any number, beside their images' class tokens (B, C)
    → the pooled embedding (B, E), in fp32. Gradients pass to the tokens; its own weights have none. Takes the encoder
    apart."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        visual = encoder.visual.float()
        self._timm, blocks = hasattr(visual, "trunk"), _blocks(visual)
        self._class_alone = _pools_class_token(visual)
        self.blocks = blocks[encoder.layer % len(blocks) + 1 :]
        if self._timm:
            visual.trunk.blocks = nn.Identity()  # lets go of the blocks that came before
        else:
            visual.transformer.resblocks = nn.ModuleList()
        self.visual = visual

    def forward(self, tokens_BNC: torch.Tensor, class_BC: torch.Tensor) -> torch.Tensor:
        x_BNC = torch.cat([class_BC[:, None], tokens_BNC], dim=1).float()
        for block in self.blocks:
            alone = self._class_alone and block is self.blocks[-1]
            x_BNC = _class_token_after(block, x_BNC) if alone else block(x_BNC)
        return self._pooled(x_BNC)[0]

    def last_layer(self, tokens_BNC: torch.Tensor, class_BC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `forward`, and what the tokens are in the encoder's last layer, (B, N, C), after its final norm."""
        x_BNC = torch.cat([class_BC[:, None], tokens_BNC], dim=1).float()
        for block in self.blocks:
            x_BNC = block(x_BNC)
        return self._pooled(x_BNC)

    def _pooled(self, x_BNC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._timm:
            normed_BNC = self.visual.trunk.norm(x_BNC)
            return self.visual.head(self.visual.trunk.forward_head(normed_BNC)), normed_BNC[:, 1:]
        pooled_BC, tokens_BNC = self.visual._pool(x_BNC)
        return pooled_BC if self.visual.proj is None else pooled_BC @ self.visual.proj, tokens_BNC


def _pools_class_token(visual: Any) -> bool:
    """Whether the embedding is made from the class token alone, after blocks that `_class_token_after` knows."""
    from open_clip.transformer import ResidualAttentionBlock  # start-up: as `_open_clip`
    from timm.models.vision_transformer import Block

    if hasattr(visual, "trunk"):
        known, pooling = Block, visual.trunk.attn_pool is None and visual.trunk.global_pool == "token"
    else:
        known, pooling = ResidualAttentionBlock, visual.attn_pool is None and visual.pool_type == "tok"
    return pooling and all(type(block) is known for block in _blocks(visual))


def _class_token_after(block: Any, x_BNC: torch.Tensor) -> torch.Tensor:
    """(B, 1, C): what the block makes of the class token. Of the others it takes no more than attention reads."""
    class_B1C = x_BNC[:, :1]
    if hasattr(block, "ln_1"):  # open_clip's
        normed_BNC = block.ln_1(x_BNC)
        class_B1C = class_B1C + block.ls_1(block.attention(normed_BNC[:, :1], normed_BNC, normed_BNC))
        return class_B1C + block.ls_2(block.mlp(block.ln_2(class_B1C)))
    class_B1C = class_B1C + block.ls1(block.attn(block.norm1(x_BNC))[:, :1])
    return class_B1C + block.ls2(block.mlp(block.norm2(class_B1C)))


def _open_clip() -> Any:
    import open_clip  # start-up: three seconds, and a store that is there needs none of it

    return open_clip


def load_tail(settings: EncoderSettings, device: torch.device) -> EncoderTail:
    """As `load_encoder`; the last tail is kept, for the next trial of this process."""
    key = (settings.model_dump_json(), str(device))
    if key not in _tails:
        _tails.clear()
        with torch.inference_mode(False):  # whoever is first may be measuring, and the next one may be training
            _tails[key] = EncoderTail(load_encoder(settings.model_copy(update={"dtype": "fp32"}), device))
    return _tails[key]


_tails: dict[tuple[str, str], EncoderTail] = {}


def load_encoder(settings: EncoderSettings, device: torch.device) -> FrozenEncoder:
    """Build the encoder and load its weights. Raises EncoderError where the weights are missing or do not fit, or where
    the encoder's geometry is not the one that the settings declare. Never falls back to other weights."""
    visual = _load_model(settings).visual
    encoder = FrozenEncoder(visual, settings.layer, resolve_dtype(settings, device)).to(device)
    _check_geometry(encoder, settings, device)
    return encoder


def count_blocks(settings: EncoderSettings) -> int:
    """How many blocks the architecture has; builds it without memory, and reads no weights."""
    open_clip = _open_clip()
    with _quiet(), torch.device("meta"):
        return len(_blocks(open_clip.create_model(_known_name(settings), pretrained=None, device="meta").visual))


def _blocks(visual: Any) -> Any:
    return visual.trunk.blocks if hasattr(visual, "trunk") else visual.transformer.resblocks


def _known_name(settings: EncoderSettings) -> str:
    """open_clip's name of the architecture; where it is a model config, that is made known first."""
    open_clip = _open_clip()
    if not settings.architecture.endswith(".json"):
        return settings.architecture
    open_clip.add_model_config(config_path(settings))
    return Path(settings.architecture).stem


def load_classifier(settings: EncoderSettings, device: torch.device) -> torch.Tensor | None:
    """(E, K) unit embeddings of ImageNet's K = 1000 class names by the encoder's own text tower, open_clip's
    zero-shot classifier with its seven templates. None where there is no text tower of CLIP's vocabulary."""
    open_clip = _open_clip()
    if settings.weights.endswith(".onnx"):
        return None
    model = _load_model(settings)
    tokenizer = open_clip.get_tokenizer(_known_name(settings))
    if getattr(model, "vocab_size", None) != tokenizer.vocab_size:
        return None
    with torch.autocast(device.type, enabled=False):
        classifier_EK = open_clip.build_zero_shot_classifier(
            model.float().to(device).eval(),
            tokenizer,
            open_clip.IMAGENET_CLASSNAMES,
            open_clip.SIMPLE_IMAGENET_TEMPLATES,
            num_classes_per_batch=CLASSES_AT_ONCE,
            device=device,
        )
    return classifier_EK.cpu()


def _load_model(settings: EncoderSettings) -> Any:
    """The whole model of open_clip's, of which an ONNX file fills the vision tower alone."""
    open_clip = _open_clip()
    name, weights = _known_name(settings), resolve_weights(settings)
    onnx_file = weights if isinstance(weights, Path) and weights.suffix == ".onnx" else None
    try:
        with _quiet():
            model = open_clip.create_model(name, pretrained=None if onnx_file else str(weights))
    except Exception as error:  # the hub's, torch's and open_clip's many kinds
        raise EncoderError(
            f"encoder.architecture={settings.architecture}, encoder.weights={settings.weights}: "
            f"not loaded ({type(error).__name__}: {told(error)})"
        ) from error
    if onnx_file:
        _load_onnx(model.visual, onnx_file, settings)
    return model


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
        visual.trunk.load_state_dict(read_timm_state(weights, settings.grid_size), strict=True)
    except RuntimeError as error:
        raise EncoderError(f"{weights}: does not fit {settings.architecture}: {str(error).splitlines()[-1]}") from error


def _check_geometry(encoder: FrozenEncoder, settings: EncoderSettings, device: torch.device) -> None:
    size, n, c = settings.image_size, settings.grid_size**2, settings.width
    try:
        tokens_BNC, class_BC = encoder(torch.zeros(1, 3, size, size, device=device))
    except Exception as error:
        raise EncoderError(
            f"encoder.layer={settings.layer}, encoder.image_size={size}: the encoder refuses them ({told(error)})"
        ) from error
    if tokens_BNC.shape != (1, n, c) or class_BC.shape != (1, c):
        raise EncoderError(
            f"encoder {settings.name}: gives tokens of shape {tuple(tokens_BNC.shape[1:])}; image_size "
            f"{size}, patch_size {settings.patch_size} and width {c} declare ({n}, {c})"
        )


def config_path(settings: EncoderSettings) -> Path:
    """The open_clip model config of an architecture that is named by a file, conf/… being toconv's own."""
    own, path = CONF.parent / settings.architecture, Path(settings.architecture)
    if own.is_file():
        return own
    if not path.is_file():
        raise EncoderError(f"encoder.architecture={settings.architecture}: no such open_clip model config")
    return path


def resolve_weights(settings: EncoderSettings) -> Path | str:
    """The weights' file, or open_clip's tag. Raises EncoderError that says what to do where it is missing."""
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
    open_clip = _open_clip()
    if settings.architecture.endswith(".json") or weights not in open_clip.list_pretrained_tags_by_model(
        settings.architecture
    ):
        raise EncoderError(
            f"encoder.weights={weights}: neither a file nor one of open_clip's tags for {settings.architecture}"
        )
    return weights


def weights_identity(settings: EncoderSettings) -> str:
    """What the weights are: the file's sha256, or open_clip's model and tag. Raises EncoderError where `encoder.sha256`
    is given and the file's differs."""
    weights = resolve_weights(settings)
    if isinstance(weights, str):
        return f"open_clip:{settings.architecture}:{weights}"
    digest = sha256(weights)
    if settings.sha256 and settings.weights.startswith("package:") and digest != settings.sha256:
        raise EncoderError(f"{weights}: sha256 is {digest}, expected {settings.sha256}; install the package again")
    return f"sha256:{digest}"


def architecture_identity(settings: EncoderSettings) -> str:
    """The architecture's name, or the content of its model config."""
    if settings.architecture.endswith(".json"):
        return json.dumps(json.loads(config_path(settings).read_text()), sort_keys=True)
    return settings.architecture


def resolve_dtype(settings: EncoderSettings, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where that is faster, fp32 elsewhere."""
    if settings.dtype == "auto":
        return torch.bfloat16 if bf16_is_fast(device) else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[settings.dtype]
