"""Where pictures come from, and how they are split: by picture, never by crop. Needs no torch."""

import importlib.util
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from toconv.errors import SAMPLES_COMMAND, DataError
from toconv.paths import sha256
from toconv.settings import SOURCES, DataSettings, named_object

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SPLITS = ("train", "val", "test")
SAMPLE = {  # package: glob patterns of the photographs that it ships
    "foolbox": ["data/imagenet_*.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
    "skimage": [
        f"data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    ],
}


@dataclass(frozen=True)
class Picture:
    key: str  # its name below its root, the same on every machine
    path: Path

    @property
    def sha256(self) -> str:
        """Of its bytes, which a process reads once as long as size and time stay."""
        found = self.path.stat()
        return _sha256(self.path, found.st_size, found.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, modified: int) -> str:
    return sha256(path)


Splits = dict[str, list[Picture]]  # train, val, test


def list_splits(data: DataSettings) -> Splits:
    """{train, val, test: pictures}. Raises DataError where there are none, or too few for three splits."""
    splits: Splits = named_object(SOURCES[data.kind].lists)(data)
    limits = {"train": data.train_pictures, "val": data.val_pictures, "test": data.test_pictures}
    return {name: _limited(pictures, limits[name], data.seed) for name, pictures in splits.items()}


def sample_splits(data: DataSettings) -> Splits:
    """The photographs that packages ship."""
    pictures = []
    for package, patterns in SAMPLE.items():
        found = importlib.util.find_spec(package)
        folders = (found and found.submodule_search_locations) or []
        paths = [path for folder in folders for pattern in patterns for path in sorted(Path(folder).glob(pattern))]
        if len(paths) < len(patterns):
            raise DataError(
                f"data=sample: the photographs of package {package} are not installed; run: {SAMPLES_COMMAND}"
            )
        pictures += [Picture(f"{package}/{path.relative_to(folders[0]).as_posix()}", path) for path in paths]
    return divided(pictures, data)


def folder_splits(data: DataSettings) -> Splits:
    """All pictures below data.root."""
    assert data.root is not None  # cross_field_mistakes
    return divided(_folder(data.root), data)


def _folder(root: Path) -> list[Picture]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of pictures")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return [Picture(path.relative_to(root).as_posix(), path) for path in paths]


def divided(pictures: list[Picture], data: DataSettings) -> Splits:
    """Split by picture with the seed; pictures with the same bytes stay together."""
    digests(pictures, data.workers)
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.sha256, []).append(picture)
    shuffled = sorted(groups.values(), key=lambda group: group[0].key)
    random.Random(data.seed).shuffle(shuffled)
    val = max(1, round(len(shuffled) * data.val_fraction))
    test = max(1, round(len(shuffled) * data.test_fraction))
    if len(shuffled) < val + test + 1:
        raise DataError(
            f"data={data.kind}: {len(shuffled)} different picture(s) found; train, val and test need at least one each"
        )
    parts = {"val": shuffled[:val], "test": shuffled[val : val + test], "train": shuffled[val + test :]}
    return {name: sorted((p for group in parts[name] for p in group), key=lambda p: p.key) for name in SPLITS}


def imagenet_splits(data: DataSettings) -> Splits:
    """train/ is the training split; val/ is divided between val and test by the ratio of their fractions."""
    assert data.imagenet_root is not None  # cross_field_mistakes
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


def digests(pictures: list[Picture], workers: int) -> list[str]:
    """sha256 of each picture's bytes."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda picture: picture.sha256, pictures))
