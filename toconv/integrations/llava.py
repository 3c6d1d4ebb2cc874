"""The adapter for LLaVA models of Hugging Face transformers.

A compressed model saves and loads as any other: `save_pretrained` writes encoder, compressor and projector into one
checkpoint, and `from_pretrained` reads it once this module is imported, which makes its kind of vision tower known."""

# B images, H W pixels, N = g*g tokens of the encoder, M = k*k compressed tokens, C channels

from __future__ import annotations

import copy
from typing import Any, cast

import torch

from toconv.errors import EncoderMismatch, RequestError
from toconv.export.module import EncoderFacts, TokenCompressor
from toconv.integrations.hugging_face import BaseModelOutputWithPooling, SubConfigSpec
from toconv.integrations.hugging_face import transformers as hf
from toconv.integrations.vision_tower import CompressedVisionTower, check_layer

PARTS = ("encoder", "k", "compressor", "decoder")  # of a compressor's config: all that its networks are built from


class CompressedVisionConfig(hf.PreTrainedConfig):
    """The encoder's own config beside its compressor's."""

    model_type = "toconv_compressed_vision"
    sub_configs_defaults = {"encoder_config": SubConfigSpec(config_class=hf.AutoConfig, model_type="clip_vision_model")}

    encoder_config: dict[str, Any] | hf.PreTrainedConfig | None = None  # once it is made, a PreTrainedConfig
    compressor: dict[str, Any] | None = None
    train_compressor: bool = False

    @property
    def hidden_size(self) -> int:
        return cast(hf.PreTrainedConfig, self.encoder_config).hidden_size

    @property
    def image_size(self) -> int:
        return cast(hf.PreTrainedConfig, self.encoder_config).image_size


class CompressedVisionModel(hf.PreTrainedModel):
    """(B, 3, H, W) pixels → (B, M, C) tokens, as the last hidden state and the only one."""

    config_class = CompressedVisionConfig
    main_input_name = "pixel_values"
    input_modalities = "image"
    _supports_sdpa = _supports_flash_attn = _supports_attention_backend = True

    def __init__(self, config: CompressedVisionConfig, tower: CompressedVisionTower | None = None) -> None:
        super().__init__(config)
        self.tower = tower or _tower(
            TokenCompressor(config.compressor or {}),
            hf.AutoModel.from_config(config.encoder_config),
            config.train_compressor,
        )
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: encoder and compressor come with their weights."""

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Which hidden states are asked for is not heeded: the encoder's own layer is the compressor's."""
        z_BMC = self.tower(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=z_BMC, hidden_states=(z_BMC,))


hf.AutoConfig.register(CompressedVisionConfig.model_type, CompressedVisionConfig, exist_ok=True)
hf.AutoModel.register(CompressedVisionConfig, CompressedVisionModel, exist_ok=True)


def compress_llava(
    model: hf.LlavaForConditionalGeneration,
    processor: hf.LlavaProcessor,
    compressor: TokenCompressor,
    train_compressor: bool = False,
) -> None:
    """Put `compressor` behind the model's vision tower, in place: its language model sees k² tokens of an image, and
    the processor makes room for as many. Of the model's config this changes vision_config, vision_feature_layer (-1),
    vision_feature_select_strategy ("full": there is no class token left to drop) and image_seq_length (k²); of the
    processor its patch_size, num_additional_image_tokens and strategy. The tower becomes frozen, the compressor with it
    unless `train_compressor`; a copy of `compressor` without its decoder is put in, in the tower's dtype. Raises
    EncoderMismatch where the compressor is not of this tower, layer or preprocessing, and RequestError on another kind
    of model. Either leaves model and processor as they were."""
    if not isinstance(model, hf.LlavaForConditionalGeneration):
        raise RequestError(
            f"{type(model).__name__}: compress_llava takes a LlavaForConditionalGeneration; others lay "
            "out their image tokens in ways of their own"
        )
    config, encoder = model.config, model.model.vision_tower
    if isinstance(encoder, CompressedVisionModel):
        raise RequestError("this model's vision tower is compressed already")
    if not isinstance(config.vision_feature_layer, int):
        raise EncoderMismatch(
            f"vision_feature_layer={config.vision_feature_layer}: a compressor is of one layer, this "
            f"one of {compressor.encoder.layer}"
        )
    check_layer(compressor, config.vision_feature_layer, blocks=encoder.config.num_hidden_layers)
    _check_processor(compressor.encoder, processor.image_processor)
    tower = _tower(copy.deepcopy(compressor).to(encoder.dtype), encoder, train_compressor)
    vision_config = CompressedVisionConfig(
        encoder_config=encoder.config,
        compressor={name: compressor.config[name] for name in PARTS},
        train_compressor=train_compressor,
        dtype=encoder.dtype,
    )
    model.model.vision_tower = CompressedVisionModel(vision_config, tower).train(model.training)
    config.vision_config, config.vision_feature_layer = vision_config, -1
    config.vision_feature_select_strategy, config.image_seq_length = "full", compressor.k**2
    _make_room(processor, compressor)


def _tower(compressor: TokenCompressor, encoder: hf.PreTrainedModel, train_compressor: bool) -> CompressedVisionTower:
    del compressor.decoder  # nobody decompresses here, and transformers would save it
    return CompressedVisionTower(compressor, encoder, train_compressor=train_compressor)


def _make_room(processor: hf.LlavaProcessor, compressor: TokenCompressor) -> None:
    """LlavaProcessor writes (H // patch_size)·(W // patch_size) + num_additional_image_tokens placeholders, one less by
    the strategy "default". patch_size becomes the pixels that a compressed token stands for, rounded up."""
    size, k = compressor.encoder.image_size, compressor.k
    processor.patch_size = -(-size // k)
    processor.num_additional_image_tokens = k**2 - (size // processor.patch_size) ** 2
    processor.vision_feature_select_strategy = "full"


def _check_processor(facts: EncoderFacts, found: Any) -> None:
    crop, side = getattr(found, "crop_size", None) or found.size, facts.image_size  # SigLIP's crops nothing
    wanted = {
        "mean": (facts.mean, tuple(found.image_mean)),
        "std": (facts.std, tuple(found.image_std)),
        "image_size": ((side, side), (crop["height"], crop["width"])),
    }
    differing = [
        f"{name}: the compressor is of an encoder with {ours}, this processor has {theirs}"
        for name, (ours, theirs) in wanted.items()
        if not torch.allclose(torch.tensor(ours), torch.tensor(theirs))
    ]
    if differing:
        raise EncoderMismatch(*differing)
