"""The default photographs, data=sample: those that packages ship, and those of an archive where it was fetched."""

import importlib.util
from functools import cache
from pathlib import Path

from toconv.errors import SAMPLES_COMMAND, DataError
from toconv.settings import DataSettings
from toconv.tokens.archive import MEGABYTE, Archive
from toconv.tokens.images import Picture, Splits, divided
from toconv.tokens.listing import say_once

PACKAGES = {  # package: glob patterns of the photographs that it ships
    "foolbox": ["data/imagenet_*.jpg"],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
    "skimage": [
        f"data/{name}" for name in ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    ],
}
ARCHIVE = Archive(
    name="tabler-ui",
    version="0.0.34",
    size=34_588_995,
    sha256="04167737bbd743dc4f504b5a0f38bf0afe3e79b75352f057c22dbd79d276c899",
    wanted=r"package/(?:dist/demo/photos/)?(LICENSE|[a-z0-9-]+-1500\.jpg)",
    photographs=50,
    content="725eeb8220aefbb96a04e33e2620d2003a32ddafd5ac86707e2bfd193e76c606",
)
FETCH = "toconv samples"  # the command


def sample_splits(data: DataSettings) -> Splits:
    """Says what there is. Raises DataError where a package's photographs are not installed, or fetched ones altered."""
    pictures = [*_of_packages(), *_of_archive()]
    more = (
        ""
        if _was_fetched(ARCHIVE.folder)
        else f"; {ARCHIVE.photographs} more of {ARCHIVE}: {FETCH} (once, {ARCHIVE.size / MEGABYTE:.0f} MB)"
    )
    say_once(f"photographs: {sources()}{more}")
    return divided(pictures, data)


def sources() -> str:
    """How many of which source, as far as they are there."""
    found = {"packages": len(_of_packages()), str(ARCHIVE): len(_of_archive())}
    return ", ".join(f"{count} of {source}" for source, count in found.items() if count)


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
    if not _was_fetched(ARCHIVE.folder):
        return []
    if not ARCHIVE.is_whole():
        raise DataError(f"{ARCHIVE.folder}: not as it was fetched; run: {FETCH}, or remove it to go on without")
    return ARCHIVE.pictures()


@cache
def _was_fetched(folder: Path) -> bool:
    """At the first look: a process lists the same photographs from then on, whatever is fetched meanwhile."""
    return folder.exists()
