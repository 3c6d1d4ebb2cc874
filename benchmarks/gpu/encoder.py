"""An encoder of ViT-L/14's shape in bf16 against its products, and the CPU cores of JPEG decoding that feed it."""

# B batch, N tokens of an image, W channels

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.gpu.lab import NEEDS_GPU, NO_DECODER, Lab, Row, attempted
from benchmarks.gpu.scale import Encoder
from benchmarks.gpu.timing import milliseconds
from benchmarks.products import Products, matmuls

PICTURE = (375, 500)  # pixels, ImageNet's usual size


class Block(nn.Module):
    """Pre-norm attention and MLP (arXiv 2010.11929, eqs. 2 and 3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BNW: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norms[0](x_BNW)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x_BNW = x_BNW + self.out(F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2))
        return x_BNW + self.mlp(self.norms[1](x_BNW))


class PlainViT(nn.Module):
    """(B, 3, side, side) → (B, 1 + N, W), with random weights."""

    def __init__(self, shape: Encoder) -> None:
        super().__init__()
        tokens = (shape.image_size // shape.patch_size) ** 2 + 1
        self.patches = nn.Conv2d(3, shape.width, shape.patch_size, shape.patch_size, bias=False)
        self.first = nn.Parameter(torch.randn(1, 1, shape.width))
        self.places = nn.Parameter(torch.randn(tokens, shape.width))
        self.blocks = nn.Sequential(*(Block(shape.width, shape.heads) for _ in range(shape.blocks)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x_BNW = self.patches(images).flatten(2).transpose(1, 2)
        return self.blocks(torch.cat([self.first.expand(len(x_BNW), -1, -1), x_BNW], 1) + self.places)


@torch.no_grad()  # in inference_mode a linear layer is one operation, and no product is seen in it
def measure(lab: Lab) -> Iterator[Row]:
    shape, rates = lab.scale.encoder, list[float]()
    with torch.device(lab.device):
        model = PlainViT(shape).bfloat16().eval()
    for batch in shape.batches:
        yield (row := attempted({"what": f"encoder, {batch} at a time"}, lambda b=batch: timed(lab, model, b)))
        rates.append(row.get("pictures_s", 0.0))
    yield from fed(lab, max(rates))
    if lab.is_gpu:
        yield attempted({"what": f"encoder, compiled, {batch} at a time"}, lambda: compiled(lab, model, batch))
    else:
        yield {"what": "encoder, compiled"} | NEEDS_GPU


def timed(lab: Lab, model: Callable[[torch.Tensor], torch.Tensor], batch: int, counted: nn.Module | None = None) -> Row:
    """Against the same products alone: those of the layers, and of attention as torch computes it."""
    shape = lab.scale.encoder
    images = torch.randn(batch, 3, shape.image_size, shape.image_size, device=lab.device, dtype=torch.bfloat16)
    with Products() as products:
        (counted or model)(images)
    alone, tokens = matmuls(products.found, lab.device), (shape.image_size // shape.patch_size) ** 2 + 1
    qkv = torch.randn(
        3, batch, shape.heads, tokens, shape.width // shape.heads, device=lab.device, dtype=torch.bfloat16
    )

    def every_product() -> None:
        alone()
        for _ in range(shape.blocks):
            F.scaled_dot_product_attention(*qkv)

    model_ms, products_ms = (lab.milliseconds(work) for work in (lambda: model(images), every_product))
    times = {"ms": round(model_ms, 2), "products_ms": round(products_ms, 2)}
    return {"pictures_s": round(1e3 * batch / model_ms, 1), **times, "share": round(products_ms / model_ms, 3)}


def compiled(lab: Lab, model: PlainViT, batch: int) -> Row:
    return timed(lab, torch.compile(model), batch, model)


def fed(lab: Lab, pictures_s: float) -> Iterator[Row]:
    """JPEG pictures that one core decodes and scales, and how many cores the encoder needs; on the GPU beside it."""
    yield attempted({"what": "JPEG on one core, Pillow"}, lambda: _by_pillow(lab, pictures_s))
    yield attempted({"what": "JPEG on the GPU, torchvision"}, lambda: _by_torchvision(lab))


def _by_pillow(lab: Lab, pictures_s: float) -> Row:
    try:
        from PIL import Image  # may be missing here
    except ImportError:
        return NO_DECODER
    side, content = lab.scale.encoder.image_size, io.BytesIO()
    Image.fromarray(picture().permute(1, 2, 0).numpy()).save(content, "JPEG", quality=90)

    def decode() -> None:
        Image.open(io.BytesIO(content.getvalue())).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)

    each = milliseconds(decode, torch.device("cpu"), lab.scale.seconds)
    return {"pictures_s": round(1e3 / each, 1), "cores_to_feed": round(pictures_s * each / 1e3, 1)}


def _by_torchvision(lab: Lab) -> Row:
    if not lab.is_gpu:
        return NEEDS_GPU
    try:
        from torchvision.io import decode_jpeg, encode_jpeg  # may be missing here
    except ImportError:
        return NO_DECODER
    several = [encode_jpeg(picture(), quality=90) for _ in range(64)]
    each = lab.milliseconds(lambda: decode_jpeg(several, device=lab.device))
    return {"pictures_s": round(1e3 * len(several) / each, 1)}


def picture() -> torch.Tensor:
    """(3, height, width) bytes, smooth with some noise, as photographs compress."""
    smooth = F.interpolate(torch.rand(1, 3, 24, 32) * 255, PICTURE, mode="bicubic")[0]
    return (smooth + 8 * torch.randn(3, *PICTURE)).clamp(0, 255).byte()
