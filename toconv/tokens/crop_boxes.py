"""Which part of a picture each of its crops shows: decided by the seed, the picture's key and the crop's number."""

import random
from collections.abc import Sequence
from typing import NamedTuple

CROP_AREA, CROP_RATIO = (0.25, 1.0), (3 / 4, 4 / 3)  # of a picture


class Box(NamedTuple):
    """In pixels of the picture, and whether the crop is its mirror image."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def crop_box(key: str, number: int, seed: int, shape: Sequence[int]) -> Box:
    """Of a picture of `shape` (H, W)."""
    draw = random.Random(f"{seed}/{key}/{number}")
    area = draw.uniform(*CROP_AREA) * shape[0] * shape[1]
    ratio = CROP_RATIO[0] * (CROP_RATIO[1] / CROP_RATIO[0]) ** draw.random()
    height = max(1, min(shape[0], round((area / ratio) ** 0.5)))
    width = max(1, min(shape[1], round((area * ratio) ** 0.5)))
    top, left = draw.randint(0, shape[0] - height), draw.randint(0, shape[1] - width)
    return Box(top, left, height, width, draw.random() < 0.5)
