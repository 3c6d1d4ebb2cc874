"""Folders of pictures → batches of pixels. Pictures are split by picture, never by crop."""

# K crops of a picture, H W pixels

from __future__ import annotations

import hashlib
import importlib.util
import random
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toconv.errors import DataError
from toconv.settings import DataSettings, EncoderSettings

if TYPE_CHECKING:
    import torch

    from toconv.module import EncoderFacts

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SPLITS = ("train", "val", "test")
CROP_AREA, CROP_RATIO = (0.25, 1.0), (3 / 4, 4 / 3)  # of a picture; drawn where there are several crops
SAMPLE = {  # package: glob patterns of the photographs that it ships
    "foolbox": ["data/imagenet_*.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
    "skimage": [f"data/{name}" for name in
                ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")],
}


@dataclass(frozen=True)
class Picture:
    key: str  # its name below its root, the same on every machine
    path: Path


def list_splits(data: DataSettings) -> dict[str, list[Picture]]:
    """{train, val, test: pictures}. Raises DataError where there are none, or too few for three splits."""
    if data.kind == "imagenet":
        splits = _imagenet(data)
    else:
        pictures = _sample() if data.kind == "sample" else _folder(data.root)
        splits = _divide(pictures, data)
    limits = {"train": data.train_pictures, "val": data.val_pictures, "test": data.test_pictures}
    return {name: _limited(pictures, limits[name], data.seed) for name, pictures in splits.items()}


def _sample() -> list[Picture]:
    pictures = []
    for package, patterns in SAMPLE.items():
        found = importlib.util.find_spec(package)
        root = Path(found.submodule_search_locations[0]) if found else None
        paths = [path for pattern in patterns for path in sorted(root.glob(pattern))] if root else []
        if len(paths) < len(patterns):
            raise DataError(f"data=sample: the photographs of package {package} are not installed; "
                            "run: pip install --no-deps -r requirements-samples.txt")
        pictures += [Picture(f"{package}/{path.relative_to(root).as_posix()}", path) for path in paths]
    return pictures


def _folder(root: Path) -> list[Picture]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of pictures")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [Picture(path.relative_to(root).as_posix(), path) for path in paths]


def _divide(pictures: list[Picture], data: DataSettings) -> dict[str, list[Picture]]:
    """Split by picture; pictures with the same bytes stay together."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(_digest(picture.path), []).append(picture)
    shuffled = sorted(groups.values(), key=lambda group: group[0].key)
    random.Random(data.seed).shuffle(shuffled)
    val = max(1, round(len(shuffled) * data.val_fraction))
    test = max(1, round(len(shuffled) * data.test_fraction))
    if len(shuffled) < val + test + 1:
        raise DataError(f"data={data.kind}: {len(shuffled)} different picture(s) found; train, val and test need at "
                        "least one each")
    parts = {"val": shuffled[:val], "test": shuffled[val:val + test], "train": shuffled[val + test:]}
    return {name: sorted((p for group in parts[name] for p in group), key=lambda p: p.key) for name in SPLITS}


def _imagenet(data: DataSettings) -> dict[str, list[Picture]]:
    """train/ is the training split; val/ is divided between val and test by the ratio of their fractions."""
    found = {}
    for part in ("train", "val"):
        root = data.imagenet_root / part
        if not root.is_dir():
            raise DataError(f"data.imagenet_root={data.imagenet_root}: needs a folder {part}/ of class folders")
        paths = sorted(p for p in root.glob("*/*") if p.suffix.lower() in SUFFIXES)
        found[part] = [Picture(f"{part}/{p.relative_to(root).as_posix()}", p) for p in paths]
    held_out = found["val"]
    random.Random(data.seed).shuffle(held_out)
    count = round(len(held_out) * data.val_fraction / (data.val_fraction + data.test_fraction))
    splits = {"train": found["train"], "val": held_out[:count], "test": held_out[count:]}
    for name, pictures in splits.items():
        if not pictures:
            raise DataError(f"data.imagenet_root={data.imagenet_root}: no pictures for {name}")
    return {name: sorted(pictures, key=lambda p: p.key) for name, pictures in splits.items()}


def _limited(pictures: list[Picture], limit: int | None, seed: int) -> list[Picture]:
    if limit is None or len(pictures) <= limit:
        return pictures
    return sorted(random.Random(seed).sample(pictures, limit), key=lambda p: p.key)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(pictures: list[Picture], workers: int) -> list[str]:
    """sha256 of each picture's bytes."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda picture: _digest(picture.path), pictures))


def pixels(
    pictures: list[Picture], data: DataSettings, encoder: EncoderSettings
) -> Iterator[torch.Tensor]:
    """For each picture its crops, (K, 3, H, W) float32, normalised for the encoder; decoded ahead by threads."""
    with ThreadPoolExecutor(data.workers) as pool:
        waiting: deque[Future] = deque()
        for picture in pictures:
            waiting.append(pool.submit(crops, picture, data, encoder))
            if len(waiting) > 2 * data.workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def crops(picture: Picture, data: DataSettings, encoder: EncoderSettings) -> torch.Tensor:
    """One crop: the encoder's own preprocessing (shorter side resized, centre cropped). Several: resized
    crops and flips that the seed, the picture's key and the crop's number decide."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    image_3HW, size = decode(picture), encoder.image_size
    bicubic = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
    if data.crops == 1:
        views = [centre_view(image_3HW, size)]
    else:
        views = []
        for number in range(data.crops):
            top, left, height, width, flip = _box(picture.key, number, data.seed, image_3HW.shape[1:])
            view = F.resized_crop(image_3HW, top, left, height, width, [size, size], **bicubic)
            views.append(F.horizontal_flip(view) if flip else view)
    return normalised(views, encoder)


def centre_view(image_3HW: torch.Tensor, size: int) -> torch.Tensor:
    """(3, size, size): the shorter side resized, the centre cropped."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    resized = F.resize(image_3HW, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(resized, [size, size])


def normalised(views: list[torch.Tensor], encoder: EncoderSettings | EncoderFacts) -> torch.Tensor:
    """(3, H, W) uint8 views → (K, 3, H, W) float32 as the encoder wants them."""
    import torch

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    return (torch.stack(views).float() / 255 - mean) / std


def _box(key: str, number: int, seed: int, shape: tuple[int, int]) -> tuple[int, int, int, int, bool]:
    """top, left, height, width (pixels) and whether to flip."""
    draw = random.Random(f"{seed}/{key}/{number}")
    area = draw.uniform(*CROP_AREA) * shape[0] * shape[1]
    ratio = CROP_RATIO[0] * (CROP_RATIO[1] / CROP_RATIO[0]) ** draw.random()
    height = max(1, min(shape[0], round((area / ratio) ** 0.5)))
    width = max(1, min(shape[1], round((area * ratio) ** 0.5)))
    top, left = draw.randint(0, shape[0] - height), draw.randint(0, shape[1] - width)
    return top, left, height, width, draw.random() < 0.5


def decode(picture: Picture) -> torch.Tensor:
    """(3, H, W) uint8, turned as EXIF says. Raises DataError that names a picture which cannot be read."""
    import torch
    from torchvision.io import ImageReadMode, decode_image

    content = picture.path.read_bytes()
    if not content:
        raise DataError(f"{picture.path}: the file is empty")
    try:
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        image = decode_image(data, ImageReadMode.RGB, apply_exif_orientation=True)
    except RuntimeError as error:
        reason = re.sub(r".*\.cpp:\d+, ", "", str(error).splitlines()[0])  # less torchvision's line of its source
        raise DataError(f"{picture.path}: not a picture that can be read ({reason})") from error
    return image if image.dtype == torch.uint8 else (image >> 8).to(torch.uint8)
