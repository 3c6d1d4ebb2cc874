"""Which files of a folder are pictures: one rule for data=folder, data=imagenet and `toconv compress`.

Links are followed, to files and to folders; each folder is read once, so that loops end. Whatever might be a picture
and is left out has its reason."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from heapq import heappop, heappush
from pathlib import Path

from toconv.progress import say

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".ico"),
}
NOT_READ = {  # of pictures too
    *(".jxl", ".svg", ".psd", ".xcf", ".tga", ".pcx", ".sgi", ".pfm", ".exr", ".hdr", ".eps"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
}
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\xff\x0a", b"\0\0\0\x0cJXL ")  # of pictures
KINDS_INSIDE = {b"WEBP", b"avif", b"heic", b"heix", b"mif1"}  # bytes 8 to 12 of RIFF and of ISO media files
FORMAT = "of a format that is not read"
UNNAMED = "a picture by its content, not by the end of its name"
HIDDEN, BROKEN, LOOP, TWICE = "hidden", "broken link", "link to a folder around it", "folder that is listed already"
SPECIAL, CLOSED = "no regular file", "cannot be opened"
EXAMPLES = 3  # that are named


class Listing:
    """The pictures below a folder, sorted, and what was left out there: {why: paths}."""

    def __init__(self, root: Path) -> None:
        self.files: list[str] = []
        self.left_out: dict[str, list[Path]] = defaultdict(list)
        self._read: set[tuple[int, int]] = set()  # folders, by device and inode
        self._links: list[Path] = []  # to folders, the first by name on top
        self._walk([root])
        while self._links:
            self._follow(heappop(self._links))
        self.files.sort(key=lambda file: file.replace(os.sep, "\0"))  # part by part, as paths are

    def _walk(self, folders: list[Path]) -> None:
        """All that is below without links to folders, which are kept for later."""
        while folders:
            folder = folders.pop()
            try:
                found = folder.stat()
                self._read.add((found.st_dev, found.st_ino))
                with os.scandir(folder) as entries:
                    folders += [Path(entry) for entry in entries if self._is_folder(entry)]
            except OSError:
                self.left_out[CLOSED].append(folder)

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is a folder to walk; a file is entered, or left out."""
        is_picture, hidden = os.path.splitext(entry.name)[1].lower() in SUFFIXES, is_hidden(entry.name)
        if is_picture and not hidden and entry.is_file(follow_symlinks=False):  # as the folder has it: no look at it
            self.files.append(entry.path)
            return False
        path, is_folder = Path(entry), entry.is_dir(follow_symlinks=False)
        if hidden:
            if is_picture or is_folder:
                self.left_out[HIDDEN].append(path)
        elif is_folder:
            return True
        elif path.suffix.lower() in NOT_READ:
            self.left_out[FORMAT].append(path)
        elif is_picture or (entry.is_symlink() and (not path.suffix or os.path.isdir(path))):
            self._enter(path, is_picture)
        elif entry.is_file() and begins_as_picture(path):
            self.left_out[UNNAMED].append(path)
        return False

    def _enter(self, path: Path, is_picture: bool) -> None:
        """What has a picture's name and is no file, or a link."""
        if os.path.isdir(path):
            heappush(self._links, path)
        elif not os.path.exists(path):
            self.left_out[BROKEN].append(path)
        elif is_picture:
            if os.path.isfile(path):
                self.files.append(str(path))
            else:
                self.left_out[SPECIAL].append(path)

    def _follow(self, link: Path) -> None:
        there = os.path.realpath(link)
        try:
            found = os.stat(there)
        except OSError:
            self.left_out[BROKEN].append(link)
            return
        if Path(there) in [place := Path(os.path.realpath(link.parent)), *place.parents]:
            self.left_out[LOOP].append(link)
        elif (found.st_dev, found.st_ino) in self._read:
            self.left_out[TWICE].append(link)
        else:
            self._walk([link])


def begins_as_picture(path: Path) -> bool:
    """Whether the first bytes of a regular file are those of a picture."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(STARTS) or start[8:] in KINDS_INSIDE


def is_hidden(name: str) -> bool:
    """Of files and folders that systems hide, or put beside those of others."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def pictures_below(root: Path) -> list[str]:
    """Sorted. Says what was left out, once a process."""
    found = Listing(root)
    say_left_out(root, found.left_out)
    return found.files


def say_left_out(root: Path, left_out: Mapping[str, Iterable[Path]]) -> None:
    for why, paths in sorted(left_out.items()):
        say_once(f"{root}: left out ({why}): {some(sorted(os.path.relpath(path, root) for path in paths))}")


def some(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return ", ".join(names[:EXAMPLES]) + more


@cache
def say_once(line: str) -> None:
    say(line)
