"""Images in, k² tokens out: a frozen encoder and its compressor behind the interface of LLaVA's CLIP tower
(haotian-liu/LLaVA, llava/model/multimodal_encoder/clip_encoder.py)."""

# B images, H W pixels, N = g*g tokens of the encoder, M = k*k compressed tokens, C channels

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from toconv import load
from toconv.errors import EncoderMismatch, RequestError
from toconv.export.module import EncoderFacts, TokenCompressor

if TYPE_CHECKING:
    from toconv.settings import EncoderSettings


@dataclass(frozen=True)
class TowerConfig:
    """What others read of a tower's config where its encoder has none of transformers."""

    hidden_size: int
    image_size: int
    patch_size: int


class CompressedVisionTower(nn.Module):
    """(B, 3, H, W) preprocessed images → (B, M, C) tokens; a list of (3, H, W) images → a list of (1, M, C). No
    gradient passes through the encoder. None reaches the compressor either unless `train_compressor` is set; then its
    parameters ask for one and the tokens carry it."""

    def __init__(
        self,
        compressor: TokenCompressor | str | Path,
        vision_tower: EncoderSettings | nn.Module | str | None = None,
        args: Any = None,
        delay_load: bool = False,
        train_compressor: bool = False,
    ) -> None:
        """`compressor`: a module, or what `toconv.load` takes. `vision_tower`: a vision model of transformers or its
        name, settings of an encoder of toconv's own (open_clip), or nothing: the settings that go by the name of the
        compressor's encoder. `args`: LLaVA's, whose mm_vision_select_layer and mm_vision_select_feature are checked.
        Raises EncoderMismatch where the compressor is not this encoder's, at once or, with `delay_load`, in
        load_model."""
        super().__init__()
        self.compressor = compressor if isinstance(compressor, TokenCompressor) else load(str(compressor))
        self.compressor.requires_grad_(train_compressor)
        self.train_compressor = train_compressor
        self.select_layer, self.select_feature = self.compressor.encoder.layer, "patch"
        _check_args(self.compressor, args)
        self._asked = (vision_tower,)  # a tuple, so that a module among it is not registered twice
        self.vision_tower_name = vision_tower if isinstance(vision_tower, str) else self.compressor.encoder.name
        self.image_processor: Any = None
        self.vision_tower: nn.Module | None = None
        if not delay_load:
            self.load_model()

    @property
    def is_loaded(self) -> bool:
        return self.vision_tower is not None

    def load_model(self, device_map: Any = None) -> None:
        """Does nothing where it is loaded. `device_map`: as in transformers; an encoder of toconv's own takes one
        device. Raises EncoderMismatch where the compressor is not this encoder's, EncoderError where that cannot be
        built."""
        if self.is_loaded:
            return
        (asked,) = self._asked
        if isinstance(asked, nn.Module):
            encoder = asked
        elif isinstance(asked, str):
            from toconv.integrations.hugging_face import load_clip  # optional: transformers

            encoder = load_clip(asked, device_map)
        else:
            encoder = _own_encoder(self.compressor, asked, device_map)
        if hasattr(encoder, "config"):
            check_vision_config(self.compressor, encoder.config)
        self.vision_tower = encoder.requires_grad_(False)
        self.compressor.to(self.device)
        self.image_processor = image_processor(self.compressor.encoder)

    def forward(self, images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """The tokens have their images' dtype. Raises RequestError on images of another size than the encoder's."""
        if isinstance(images, torch.Tensor):
            return self._compressed(images)
        return [self._compressed(image_3HW[None]) for image_3HW in images]

    def _compressed(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        if self.vision_tower is None:
            raise RequestError(f"{self.vision_tower_name}: not loaded yet; call load_model() first")
        size = self.compressor.encoder.image_size
        if tuple(images_B3HW.shape[1:]) != (3, size, size):
            raise RequestError(
                f"images of shape {tuple(images_B3HW.shape)}: the encoder takes (B, 3, {size}, {size}); "
                "image_processor.preprocess makes them so"
            )
        with torch.no_grad():
            x_BNC = encode(self.vision_tower, self.compressor, images_B3HW.to(self.device, self.dtype))
        with torch.set_grad_enabled(self.train_compressor and torch.is_grad_enabled()):
            return self.compressor(x_BNC).to(images_B3HW.dtype)

    @property
    def _placed(self) -> torch.Tensor:
        return next((self.vision_tower or self.compressor).parameters())

    @property
    def dtype(self) -> torch.dtype:
        return self._placed.dtype

    @property
    def device(self) -> torch.device:
        return self._placed.device

    @property
    def config(self) -> Any:
        """The encoder's own, of transformers; else its sizes, which are known before it is loaded."""
        facts = self.compressor.encoder
        return getattr(self.vision_tower, "config", TowerConfig(facts.width, facts.image_size, facts.patch_size))

    @property
    def hidden_size(self) -> int:
        return self.compressor.width

    @property
    def num_patches_per_side(self) -> int:
        return self.compressor.k

    @property
    def num_patches(self) -> int:
        return self.compressor.k**2

    @property
    def dummy_feature(self) -> torch.Tensor:
        return torch.zeros(1, self.hidden_size, device=self.device, dtype=self.dtype)


def encode(encoder: nn.Module, compressor: TokenCompressor, images_B3HW: torch.Tensor) -> torch.Tensor:
    """(B, N, C) tokens of the compressor's layer, without class token."""
    config = getattr(encoder, "config", None)
    if config is not None:
        index = compressor.encoder.layer % config.num_hidden_layers + 1  # hidden_states[0] comes before block 0
        found = encoder(images_B3HW, output_hidden_states=index, return_dict=True)
        return found.hidden_states[index][:, -(compressor.grid_size**2) :]
    tokens_BNC, _ = encoder(images_B3HW)
    return tokens_BNC.clone()  # what inference mode leaves cannot be saved for a later layer's gradient


def check_vision_config(compressor: TokenCompressor, config: Any) -> None:
    """Raises EncoderMismatch where a vision model of transformers is not the encoder that the compressor is of."""
    compressor.check_encoder(
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=config.hidden_size,
        blocks=config.num_hidden_layers,
    )
    quick, theirs = quick_gelu(compressor.encoder.architecture), config.hidden_act
    if quick != (theirs == "quick_gelu"):
        raise EncoderMismatch(
            f"hidden_act: the compressor is of an encoder {'with' if quick else 'without'} QuickGELU "
            f"({compressor.encoder.architecture[:80]}), this one has {theirs!r}"
        )
    ours, name = compressor.encoder.weights, str(getattr(config, "_name_or_path", ""))
    owner, openais = name.split("/")[0], ours.endswith(":openai")
    if ours.startswith("open_clip:") and owner in {"openai", "laion"} and openais != (owner == "openai"):
        raise EncoderMismatch(f"weights: the compressor is of an encoder with {ours!r}, this one has {name!r}")


def quick_gelu(architecture: str) -> bool:
    """Whether an architecture of open_clip's, a name or the content of a model config, has QuickGELU."""
    if architecture.startswith("{"):
        config = json.loads(architecture)
        return config.get("quick_gelu", False) or "quickgelu" in config["vision_cfg"].get("timm_model_name", "")
    return "quickgelu" in architecture


def check_layer(compressor: TokenCompressor, layer: int, **blocks: int) -> None:
    """`layer` counts the hidden states of transformers: 0 comes before the first block, -1 after the last. Raises
    EncoderMismatch where it is not the compressor's."""
    compressor.check_encoder(layer=layer if layer < 0 else layer - 1, **blocks)


def _check_args(compressor: TokenCompressor, args: Any) -> None:
    layer, feature = (getattr(args, f"mm_vision_select_{what}", None) for what in ("layer", "feature"))
    if layer is not None:
        check_layer(compressor, layer)
    if feature not in {None, "patch"}:
        raise RequestError(f"mm_vision_select_feature={feature!r}: a compressed tower gives 'patch', no class token")


def _own_encoder(compressor: TokenCompressor, settings: EncoderSettings | None, device_map: Any) -> nn.Module:
    from toconv.config import compose  # optional: what trains, where the encoder is another's
    from toconv.export.from_checkpoint import encoder_facts, encoder_of
    from toconv.tokens.encoders import load_encoder

    if isinstance(device_map, dict):
        raise RequestError(f"device_map={device_map}: an encoder of toconv's own takes one device")
    if device_map in {None, "auto"}:
        device_map = "cuda" if device_map and torch.cuda.is_available() else "cpu"
    settings = settings or compose(encoder_of(compressor, {})).encoder
    compressor.check_encoder(**asdict(encoder_facts(settings)))
    return load_encoder(settings, torch.device(device_map))


def image_processor(facts: EncoderFacts) -> Any:
    """The encoder's preprocessing with the interface of CLIPImageProcessor: that itself where transformers is
    installed, else a small one of torchvision's parts."""
    if importlib.util.find_spec("transformers"):
        from toconv.integrations.hugging_face import clip_image_processor  # optional: transformers

        return clip_image_processor(facts)
    return ImageProcessor(facts)


class ImageProcessor:
    """What LLaVA uses of CLIPImageProcessor: shorter side resized, centre cropped, normalised."""

    def __init__(self, facts: EncoderFacts) -> None:
        side = facts.image_size
        self.size, self.crop_size = {"shortest_edge": side}, {"height": side, "width": side}
        self.image_mean, self.image_std = facts.mean, facts.std
        self._facts = facts

    def preprocess(self, images: Any, return_tensors: str = "pt") -> dict[str, torch.Tensor]:
        """{"pixel_values": (B, 3, H, W) float32} of one picture or several: Pillow's, or uint8 as (3, H, W) tensors.
        Raises RequestError where other than torch's tensors are asked for."""
        from toconv.tokens.pixels import as_uint8, centre_view, normalised  # optional: torchvision

        if return_tensors != "pt":
            raise RequestError(f"return_tensors={return_tensors!r}: this processor gives 'pt' alone")
        several = images if isinstance(images, list | tuple) else [images]
        views = [centre_view(as_uint8(image), self._facts.image_size) for image in several]
        return {"pixel_values": normalised(views, self._facts)}

    __call__ = preprocess
