"""How much an encoder's class token attends to each token of an image, in the block behind the layer of a store."""

# B images, N tokens, P prefix tokens, the class token first, T = P + N, C channels, H heads, D channels of a head

from typing import Any

import torch
from torch import nn

from toconv.errors import EncoderError
from toconv.settings import EncoderSettings
from toconv.tokens.encoders import load_tail
from toconv.tokens.known_images import KnownImages
from toconv.tokens.manifest import SPLITS
from toconv.tokens.store import TokenStore


class ClassAttention:
    """Standardised (B, N, C) tokens of images of a store → (B, N), mean over heads."""

    def __init__(self, store: TokenStore, encoder: EncoderSettings, device: torch.device) -> None:
        """Raises EncoderError where the encoder has no such attention."""
        blocks = load_tail(encoder, device).blocks
        if not len(blocks):
            raise EncoderError("no block of the encoder comes after the layer of the tokens")
        self._block, self._known = blocks[0], KnownImages(store, device)
        self._prefix_IPC = torch.cat([store.class_tokens(split) for split in SPLITS]).to(device)
        class_attention(self._block, torch.zeros(1, 1, store.width, device=device), self._prefix_IPC[:1])

    @torch.inference_mode()
    def __call__(self, x_BNC: torch.Tensor) -> torch.Tensor:
        prefix_BPC = self._prefix_IPC[self._known(x_BNC)]
        with torch.autocast(x_BNC.device.type, enabled=False):
            return class_attention(self._block, self._known.raw(x_BNC), prefix_BPC)


def class_attention(block: Any, tokens_BNC: torch.Tensor, prefix_BPC: torch.Tensor) -> torch.Tensor:
    """(B, N) what the class token's query gives the tokens in a block of open_clip's or timm's; the prefix tokens get
    the rest. Raises EncoderError for any other block, and where there is no class token."""
    first = prefix_BPC.shape[1]
    if first == 0:
        raise EncoderError("the encoder has no class token")
    x_BTC = torch.cat([prefix_BPC, tokens_BNC], dim=1)
    if isinstance(getattr(block, "attn", None), nn.MultiheadAttention):  # open_clip's
        x_BTC = block.ln_1(x_BTC)
        return block.attn(x_BTC[:, :1], x_BTC, x_BTC, need_weights=True)[1][:, 0, first:]
    if not hasattr(getattr(block, "attn", None), "qkv"):
        raise EncoderError(f"a block of the encoder ({type(block).__name__}) has no attention that is known")
    attention = block.attn
    query, key, _ = attention.qkv(block.norm1(x_BTC)).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
    query_BH1D, key_BHTD = attention.q_norm(query[:, :1].transpose(1, 2)), attention.k_norm(key.transpose(1, 2))
    return (query_BH1D @ key_BHTD.mT * attention.scale).softmax(-1).mean(1)[:, 0, first:]
