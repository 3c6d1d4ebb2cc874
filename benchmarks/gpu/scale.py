"""How large everything is: on a card, and on the CPU where `--tiny` tries it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tokens:
    """A store and the training on it. `k` and `batch` come first and are the ones of the goals."""

    grid_size: int
    channels: int
    k: int
    batch: int
    images: int
    sizes: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)  # changes of the defaults, as `plain_settings` takes them


@dataclass(frozen=True)
class Encoder:
    """A vision transformer's shape, and so many pictures at a time."""

    image_size: int
    patch_size: int
    width: int
    heads: int
    blocks: int
    batches: tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    tiny: bool
    seconds: float  # that a timing runs for
    rounds: int  # that it has at least
    large: Tokens  # CLIP ViT-L/14's
    small: Tokens  # of a training that leaves most of a card idle
    encoder: Encoder
    store_bytes: int  # of the store that reading is measured on
    write_seconds: float  # for which it may be written; it is smaller where the disk is slow
    read_batches: int
    matrix_side: int  # of the product that tells a card's rate
    processes: tuple[int, ...]  # trainings side by side
    together_seconds: float  # that they run for
    steps: int  # whose losses are compared
    naive_rounds: int


CARD = Scale(
    tiny=False,
    seconds=0.3,
    rounds=5,
    large=Tokens(24, 1024, 6, 256, 512, (6, 4, 8, 12), (256, 32, 128, 512)),
    small=Tokens(24, 384, 6, 16, 128),
    encoder=Encoder(336, 14, 1024, 16, 24, (64, 128)),
    store_bytes=20_000_000_000,
    write_seconds=25.0,
    read_batches=16,
    matrix_side=8192,
    processes=(1, 2, 4, 8),
    together_seconds=3.0,
    steps=200,
    naive_rounds=2,
)
NARROW = {f"model__{part}__width": 16 for part in ("compressor", "decoder", "critic")}
TINY = Scale(
    tiny=True,
    seconds=0.001,
    rounds=1,
    large=Tokens(12, 32, 3, 4, 8, (3, 4), (4, 8), NARROW),
    small=Tokens(12, 16, 3, 4, 8, settings=NARROW),
    encoder=Encoder(56, 14, 32, 4, 2, (2,)),
    store_bytes=1_000_000,
    write_seconds=1.0,
    read_batches=3,
    matrix_side=64,
    processes=(1, 2),
    together_seconds=0.2,
    steps=4,
    naive_rounds=1,
)
