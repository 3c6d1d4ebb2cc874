"""A frozen encoder for smaller pictures: its position embeddings interpolated, all other weights shared."""

# B images, C channels

import copy

import torch
import torch.nn.functional as F
from torch import nn

from toconv.errors import EncoderError, told
from toconv.tokens.encoders import FrozenEncoder


def resized_encoder(encoder: FrozenEncoder, patch_size: int, k: int) -> FrozenEncoder:
    """The encoder for pictures of patch_size·k pixels a side, which gives k×k tokens. timm's towers interpolate as they
    do it themselves, open_clip's as open_clip does it for weights of another size: bicubic, with antialias. Raises
    EncoderError where the encoder cannot be had at that size."""
    shared = {id(x): x for x in (*encoder.parameters(), *encoder.buffers())}
    resized, size = copy.deepcopy(encoder, shared), patch_size * k
    try:
        if hasattr(resized.visual, "trunk"):
            resized.visual.trunk.set_input_size(img_size=size)
        else:
            resized.visual.grid_size, resized.visual.image_size = (k, k), (size, size)
            resized.visual.positional_embedding = _interpolated(resized.visual.positional_embedding, k)
        resized.requires_grad_(False)
        tokens_BNC, _ = resized(torch.zeros(1, 3, size, size, device=next(encoder.parameters()).device))
    except Exception as error:  # the towers' many kinds
        raise EncoderError(f"the encoder gives no {k}x{k} tokens of {size} px ({told(error)})") from error
    if tokens_BNC.shape[1] != k * k:
        raise EncoderError(f"the encoder gives {tokens_BNC.shape[1]} tokens of {size} px, not {k}x{k}")
    return resized


def _interpolated(positions: nn.Parameter, k: int) -> nn.Parameter:
    """(1 + g², C), the class token's first → (1 + k², C)."""
    places_1Cgg = positions[1:].float().T.unflatten(1, (round((len(positions) - 1) ** 0.5), -1))[None]
    smaller_1Ckk = F.interpolate(places_1Cgg, (k, k), mode="bicubic", antialias=True, align_corners=False)
    smaller = torch.cat([positions[:1].float(), smaller_1Ckk[0].flatten(1).T])
    return nn.Parameter(smaller.to(positions.dtype), requires_grad=False)
