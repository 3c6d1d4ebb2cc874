"""Compressors with random numbers in every part, as config.json describes them."""

import torch

from toconv.export.module import TokenCompressor

ENCODER = {
    "name": "vit_s_14_336",
    "architecture": "ViT",
    "weights": "sha256:0123",
    "layer": -3,
    "image_size": 336,
    "patch_size": 14,
    "width": 384,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "blocks": 12,
}


def small_encoder(side=6, width=8):
    return {**ENCODER, "image_size": 14 * side, "width": width}


def compressor(k, encoder=ENCODER, init="pool", kind="conv", family="conv", **about):
    """Pool or PCA, conv or attention, with no part at zero."""
    torch.manual_seed(k)
    made = TokenCompressor(
        {
            "library": "toconv",
            "format": 1,
            "toconv": "0.1.0",
            "k": k,
            "encoder": encoder,
            "compressor": {"kind": family, "init": init, "width": 8, "blocks": 1},
            "decoder": {"kind": kind, "width": 8, "blocks": 1, "heads": 2},
            "fingerprint": "f" * 16,
            **about,
        }
    )
    with torch.no_grad():
        for name, x in {**dict(made.named_parameters()), **dict(made.named_buffers())}.items():
            x.copy_(torch.rand(x.shape) + 0.5 if name == "std_C" else torch.randn(x.shape) / max(x.shape[-1], 9) ** 0.5)
    return made.eval()


def tokens(made, images=2):
    """Raw tokens with the spread that the compressor expects."""
    standard = torch.randn(images, made.grid_size**2, made.width, generator=torch.Generator().manual_seed(7))
    return standard * made.std_C + made.mean_C
