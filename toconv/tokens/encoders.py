"""Frozen vision transformers of open_clip and timm, and what each does after the layer that tokens are taken from."""

# B images, N = g*g tokens, P prefix tokens beside them (class token, registers), C channels, H W pixels

from typing import Any

import torch
from torch import nn

from toconv.errors import EncoderError, told
from toconv.settings import EncoderSettings
from toconv.tokens.encoder_models import blocks_of, load_visual, pools_class_token
from toconv.tokens.encoder_weights import resolve_dtype

TOLERANCE = 1e-3  # of an embedding's length, within which the tail's is the encoder's own


class FrozenEncoder(nn.Module):
    """(B, 3, H, W) normalised pixels → the tokens (B, N, C) of one block and what stands before them there, (B, P, C):
    a class token, then registers; P = 0 where the encoder pools its tokens without one."""

    visual: Any  # open_clip's and timm's towers and their blocks, here and below: their libraries declare no types

    def __init__(self, visual: Any, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.visual, self.layer = visual.to(dtype).eval().requires_grad_(False), layer

    @property
    def dtype(self) -> torch.dtype:
        return next(self.visual.parameters()).dtype

    @property
    def has_class_token(self) -> bool:
        """Whether the first of the P prefix tokens is one."""
        return not hasattr(self.visual, "trunk") or self.visual.trunk.cls_token is not None

    @torch.inference_mode()
    def forward(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        asked = {"indices": [self.layer], "stop_early": True, "intermediates_only": True, "output_fmt": "NLC"}
        pixels_B3HW = pixels_B3HW.to(self.dtype)
        if hasattr(self.visual, "trunk"):
            (found,) = self.visual.trunk.forward_intermediates(pixels_B3HW, return_prefix_tokens=True, **asked)
            return found if isinstance(found, tuple) else (found, found[:, :0])
        found = self.visual.forward_intermediates(pixels_B3HW, output_extra_tokens=True, **asked)
        return found["image_intermediates"][0], found["image_intermediates_prefix"][0]


class EncoderTail(nn.Module):
    """What the encoder does after `layer`: tokens (B, N, C), in any number, behind their images' prefix tokens
    (B, P, C) → the embedding (B, E) of the encoder's own pooling, in fp32. Gradients pass to the tokens; its own
    weights have none."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        visual = encoder.visual.float()
        self._timm, blocks = hasattr(visual, "trunk"), blocks_of(visual)
        self._class_alone = pools_class_token(visual)
        self.blocks = blocks[encoder.layer % len(blocks) + 1 :]
        self.visual = visual

    def forward(self, tokens_BNC: torch.Tensor, prefix_BPC: torch.Tensor) -> torch.Tensor:
        x_BNC = torch.cat([prefix_BPC, tokens_BNC], dim=1).float()
        for block in self.blocks:
            alone = self._class_alone and block is self.blocks[-1]
            x_BNC = _class_token_after(block, x_BNC) if alone else block(x_BNC)
        return self._pooled(x_BNC)[0]

    def last_layer(self, tokens_BNC: torch.Tensor, prefix_BPC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `forward`, and what the tokens are in the encoder's last layer, (B, N, C), after its final norm, unless
        that comes behind the pooling."""
        x_BNC = torch.cat([prefix_BPC, tokens_BNC], dim=1).float()
        for block in self.blocks:
            x_BNC = block(x_BNC)
        pooled_BC, last_BNC = self._pooled(x_BNC)
        queried = not self._timm and self.visual.attn_pool is not None  # open_clip's norm is then of what was queried
        return pooled_BC, (x_BNC if queried else last_BNC)[:, -tokens_BNC.shape[1] :]

    def let_go(self) -> None:
        """Of the blocks that came before, of which the encoder has then none."""
        if self._timm:
            self.visual.trunk.blocks = nn.Identity()
        else:
            self.visual.transformer.resblocks = nn.ModuleList()

    def _pooled(self, x_BNC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._timm:
            normed_BNC = self.visual.trunk.norm(x_BNC)
            return self.visual.head(self.visual.trunk.forward_head(normed_BNC)), normed_BNC
        pooled_BC, tokens_BNC = self.visual._pool(x_BNC)
        return pooled_BC if self.visual.proj is None else pooled_BC @ self.visual.proj, tokens_BNC


def _class_token_after(block: Any, x_BNC: torch.Tensor) -> torch.Tensor:
    """(B, 1, C): what the block makes of the class token. Of the others it takes no more than attention reads."""
    class_B1C = x_BNC[:, :1]
    if hasattr(block, "ln_1"):  # open_clip's
        normed_BNC = block.ln_1(x_BNC)
        class_B1C = class_B1C + block.ls_1(block.attention(normed_BNC[:, :1], normed_BNC, normed_BNC))
        return class_B1C + block.ls_2(block.mlp(block.ln_2(class_B1C)))
    class_B1C = class_B1C + block.ls1(block.attn(block.norm1(x_BNC))[:, :1])
    return class_B1C + block.ls2(block.mlp(block.norm2(class_B1C)))


def load_tail(settings: EncoderSettings, device: torch.device) -> EncoderTail:
    """As `load_encoder`; the last tail is kept, for the next trial of this process."""
    key = (settings.model_dump_json(), str(device))
    if key not in _tails:
        _tails.clear()
        with torch.inference_mode(False):  # whoever is first may be measuring, and the next one may be training
            _tails[key] = EncoderTail(load_encoder(settings.model_copy(update={"dtype": "fp32"}), device))
            _tails[key].let_go()
    return _tails[key]


_tails: dict[tuple[str, str], EncoderTail] = {}


def load_encoder(settings: EncoderSettings, device: torch.device) -> FrozenEncoder:
    """Build the encoder and load its weights. Raises EncoderError where the weights are missing or do not fit, where
    the encoder's geometry is not the one that the settings declare, or where its tokens do not lead to its embedding.
    Never falls back to other weights."""
    encoder = FrozenEncoder(load_visual(settings), settings.layer, torch.float32).to(device)
    with torch.autocast(device.type, enabled=False):
        _check(encoder, settings, device)
    return encoder.to(resolve_dtype(settings, device))


@torch.inference_mode()
def _check(encoder: FrozenEncoder, settings: EncoderSettings, device: torch.device) -> None:
    """Of one picture: the declared grid, and an embedding that the tail makes of the tokens in whatever order, so that
    compressed tokens can take their place."""
    size, n, c = settings.image_size, settings.grid_size**2, settings.width
    noise = torch.Generator().manual_seed(0)
    pixels_B3HW = torch.randn(1, 3, size, size, generator=noise).to(device)
    try:
        tokens_BNC, prefix_BPC = encoder(pixels_B3HW)
    except Exception as error:
        raise EncoderError(
            f"encoder.layer={settings.layer}, encoder.image_size={size}: the encoder refuses them ({told(error)})"
        ) from error
    if tokens_BNC.shape != (1, n, c) or prefix_BPC.shape[2] != c:
        raise EncoderError(
            f"encoder {settings.name}: gives tokens of shape {tuple(tokens_BNC.shape[1:])}; image_size "
            f"{size}, patch_size {settings.patch_size} and width {c} declare ({n}, {c})"
        )
    _check_tail(encoder, pixels_B3HW, tokens_BNC[:, torch.randperm(n, generator=noise)], prefix_BPC, settings)


def _check_tail(
    encoder: FrozenEncoder,
    pixels_B3HW: torch.Tensor,
    tokens_BNC: torch.Tensor,
    prefix_BPC: torch.Tensor,
    settings: EncoderSettings,
) -> None:
    found = encoder.visual(pixels_B3HW)
    own_BE = found[0] if isinstance(found, tuple) else found  # open_clip's CoCa gives its tokens too
    try:
        distance = torch.dist(EncoderTail(encoder)(tokens_BNC, prefix_BPC), own_BE).item()
    except Exception as error:
        why = told(error)
    else:
        if distance <= TOLERANCE * own_BE.norm().item():
            return
        why = f"off by {distance / own_BE.norm().item():.2g} of it"
    raise EncoderError(
        f"encoder.architecture={settings.architecture}: what follows layer {settings.layer} does not make the "
        f"encoder's own embedding of its tokens, whatever their order ({why}), so that compressed tokens cannot take "
        "their place"
    )
