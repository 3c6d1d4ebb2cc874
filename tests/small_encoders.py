"""Small siblings of real vision transformers, with random weights, as timm knows them once this is imported."""

import timm
import torch
from timm.models import register_model
from timm.models.vision_transformer import _create_vision_transformer

WIDTH, BLOCKS = 32, 3


def _built(name, shape, **asked):
    asked = {key: value for key, value in asked.items() if key in {"num_classes", "img_size", "global_pool"}}
    return _create_vision_transformer(name, embed_dim=WIDTH, depth=BLOCKS, num_heads=2, **{**shape, **asked})


@register_model
def tiny_siglip(pretrained=False, **asked):
    """27×27 tokens, pooled by attention, as of SigLIP's so400m at 384 px."""
    shape = {"patch_size": 4, "img_size": 110, "class_token": False, "global_pool": "map"}
    return _built("tiny_siglip", shape, pretrained=False, **asked)


@register_model
def tiny_siglip_gap(pretrained=False, **asked):
    shape = {"patch_size": 4, "img_size": 32, "class_token": False, "global_pool": "avg", "fc_norm": False}
    return _built("tiny_siglip_gap", shape, pretrained=False, **asked)


@register_model
def tiny_dinov2_reg4(pretrained=False, **asked):
    """A class token and four registers, as of DINOv2's `vit_*_patch14_reg4_dinov2`."""
    shape = {"patch_size": 4, "img_size": 36, "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5}
    return _built("tiny_dinov2_reg4", shape, pretrained=False, **asked)


def randomised(model):
    """With numbers in every part, such as training would leave."""
    draw = torch.Generator().manual_seed(0)
    for values in model.parameters():
        spread = values.shape[-1] ** -0.5 if values.dim() > 1 else 0.5
        values.data = spread * torch.randn(values.shape, generator=draw) + (values.dim() == 1)
    return model.eval()


def small_encoder(folder, name, **changes):
    """Overrides that choose a model of timm's with random weights, saved in the folder."""
    weights = folder / f"{name}.pt"
    torch.save(randomised(timm.create_model(name)).state_dict(), weights)
    statistics = {"encoder.mean": [0.5, 0.5, 0.5], "encoder.std": [0.5, 0.5, 0.5]}
    chosen = {"encoder": "timm", "encoder.architecture": name, "encoder.weights": str(weights)}
    return {**chosen, **statistics, "encoder.dtype": "fp32", **changes}
