"""The default photographs, data=sample: those that packages ship, and those of an archive where it was fetched."""

import importlib.util
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from toconv.errors import SAMPLES_COMMAND, DataError
from toconv.settings import DataSettings
from toconv.tokens.images import Picture, Splits, divided

PACKAGES = {  # package: glob patterns of the photographs that it ships
    "foolbox": ["data/imagenet_*.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
    "skimage": [
        f"data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    ],
}
CACHE = "TOCONV_CACHE"  # of the environment: the folder for what is fetched, in place of the user's own


@dataclass(frozen=True)
class Archive:
    """A package of npm's with photographs."""

    name: str
    version: str
    size: int  # bytes
    sha256: str
    member: str  # a regular expression of its photographs' names
    pictures: int

    def folder(self) -> Path:
        """Where its photographs lie once they are fetched."""
        return cache_folder() / f"{self.name}-{self.version}"


ARCHIVE = Archive(
    name="tabler-ui",
    version="0.0.34",
    size=34_588_995,
    sha256="04167737bbd743dc4f504b5a0f38bf0afe3e79b75352f057c22dbd79d276c899",
    member=r"package/dist/demo/photos/([a-z0-9-]+-1500\.jpg)",
    pictures=50,
)


def cache_folder() -> Path:
    """Of the environment's TOCONV_CACHE, else `toconv` in XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get(CACHE):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "toconv"


def sample_splits(data: DataSettings) -> Splits:
    """Near-duplicates in one split. Raises DataError where a package's photographs are not installed, or fetched ones
    are not all there."""
    return divided([*_of_packages(), *_of_archive()], data)


def _of_packages() -> list[Picture]:
    pictures = []
    for package, patterns in PACKAGES.items():
        found = importlib.util.find_spec(package)
        folders = (found and found.submodule_search_locations) or []
        paths = [path for folder in folders for pattern in patterns for path in sorted(Path(folder).glob(pattern))]
        if len(paths) < len(patterns):
            raise DataError(
                f"data=sample: the photographs of package {package} are not installed; run: {SAMPLES_COMMAND}"
            )
        pictures += [Picture(f"{package}/{path.relative_to(folders[0]).as_posix()}", path) for path in paths]
    return pictures


def _of_archive() -> list[Picture]:
    folder = ARCHIVE.folder()
    paths = sorted(folder.glob("*.jpg"))
    if folder.exists() and len(paths) != ARCHIVE.pictures:
        raise DataError(
            f"{folder}: {len(paths)} of the {ARCHIVE.pictures} photographs are there; remove the folder, then run: "
            "toconv samples"
        )
    return [Picture(f"{ARCHIVE.name}/{path.name}", path) for path in paths]
