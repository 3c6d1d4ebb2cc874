"""Every path of a sweep and of a trial, and how a file is written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toconv.errors import DamagedFile

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parent  # the repository; None in an installed copy
CONF = (CHECKOUT or PACKAGE) / "conf"
FOR_ALL, FOR_THE_OWNER = 0o666, 0o600  # permissions of a file, less those of the umask
OTHERS = 0o077  # of those, whatever is not the owner's
OUTPUTS = Path("outputs")  # of the working directory
NO_LINKS = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK}  # what a disk without hard links says to one


@contextmanager
def packed() -> Iterator[Path]:
    """A copy of this package with conf/ in it, as an installed one has it, for another machine."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, PACKAGE.name)
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        if CHECKOUT:
            shutil.copytree(CONF, package / CONF.name)
        yield package


class Below:
    """A path of this name below the folder of a TrialPaths or a SweepPaths."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, paths: TrialPaths | SweepPaths, of: type) -> Path:
        return (paths.folder if isinstance(paths, TrialPaths) else paths.root) / self._name


@dataclass(frozen=True)
class TrialPaths:
    """The files of one training."""

    folder: Path
    config, metrics = Below("config.yaml"), Below("metrics.jsonl")
    machine = Below("machine.jsonl")  # what the machine did in each epoch, where experiment.system_metrics asks for it
    latest, best = Below("latest.pt"), Below("best_model.pt")
    interrupted = Below("interrupted.pt")  # from within the epoch after the latest, where the training was to leave
    leave = Below("leave")  # there while the driver wants the training to leave at its next step
    worker = Below("worker.json")  # which process trained here, and which GPUs it saw
    error = Below("error.txt")  # the stack trace of a trial that failed unforeseen
    overdue = Below("overdue.txt")  # where a trial was when its time was over, for its next worker
    finished = Below("finished")  # there once every epoch is done and the results are entered
    evaluation, evaluation_log = Below("evaluation.json"), Below("evaluation.log")  # of the user's own measure
    lock = Below(".lock")

    def epoch(self, n: int) -> Path:
        return self.folder / f"checkpoint_epoch_{n}.pt"

    def by_epoch(self, names: Collection[str] | None = None) -> dict[int, Path]:
        """Each checkpoint_epoch_N.pt of the folder, or those of these names, by its N, rising."""
        if names is None:
            names = [path.name for path in self.folder.glob("*.pt")]
        named = (re.fullmatch(r"checkpoint_epoch_(\d{1,18})\.pt", name) for name in names)
        found = {int(match[1]): self.folder / match[0] for match in named if match}
        return {n: found[n] for n in sorted(found)}

    def checkpoints(self) -> list[Path]:
        """Those that are there, latest first; a file of any other name is not ours."""
        kept = (self.latest, self.best, self.interrupted, *self.by_epoch().values())
        return [path for path in kept if path.exists()]


@dataclass(frozen=True)
class SweepPaths:
    """The files of one sweep, below `outputs/<name>`."""

    root: Path
    request, study, spent = Below("sweep.yaml"), Below("study.db"), Below("spent.json")
    results, report = Below("results.csv"), Below("report.html")
    recommended = Below("recommended")  # the folder of the recommended compressors, an export for each k
    figures = Below("figures")  # the report's, as PNG and PDF, and nothing else
    lock = Below(".lock")
    running = Below("running.json")  # which process runs it, and how far it is
    steering = Below("steering")  # what was asked of it while it ran, and what was answered
    tune = Below(".ray")  # Ray Tune's own files; nothing is read back from them

    @classmethod
    def named(cls, name: str) -> SweepPaths:
        """Of the sweep of that name in the working directory."""
        return cls(OUTPUTS.resolve() / name)

    def next_study(self, growths: int) -> Path:
        """The ledger as it is to be once sweep.yaml tells of so many growths."""
        return self.root / f"study.{growths}.db"

    def recommended_at(self, k: int) -> Path:
        return self.recommended / f"k{k}"

    def told(self) -> dict[str, Path]:
        """The files that tell of the whole sweep, as far as they are there, by their path below `root`."""
        files = [self.request, self.results, self.report, *sorted(self.figures.rglob("*"))]
        files += sorted(self.steering.glob("[!.]*.json"))
        return {str(path.relative_to(self.root)): path for path in files if path.is_file()}

    def trial(self, trial_id: str) -> TrialPaths:
        """Raises DamagedFile where it would lie elsewhere: the ledger was altered."""
        if Path(trial_id).name != trial_id or trial_id in {"", ".."}:
            raise DamagedFile(self.study, f"a trial's id must be a folder's name, is {trial_id!r}")
        return TrialPaths(self.root / "trials" / trial_id)


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written in a folder that may be still to be made, if so. A file without a name is made in it,
    or in the nearest folder above that is there, and goes."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return f"{there} is no folder"
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return str(error.strerror)


def free_bytes(folder: Path) -> int:
    """On the disk of a folder that may be still to be made."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free


def write_atomic(path: Path, data: bytes | memoryview | str, mode: int = FOR_ALL) -> None:
    """Write beside `path`, flush to the disk, then move into place: a reader sees the old or the new whole. `mode` are
    the file's permissions, less those of the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = data.encode() if isinstance(data, str) else data
    temporary = _beside(path)
    with _named(path):
        try:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system within names the file: of itself one does that tells of a name, and none of writing."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _beside(path: Path) -> Path:
    """A name in the same folder that nobody else has."""
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")  # names have 255 bytes


def write_new(path: Path, data: bytes) -> None:
    """As `write_atomic`, but a file that is there by then stays as it is."""
    fresh = _beside(path)
    write_atomic(fresh, data)
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def others_can_read(path: Path) -> bool:
    """Whether anybody but its owner may read or write a file; what is not there nobody can."""
    try:
        return path.is_file() and bool(path.stat().st_mode & OTHERS)
    except OSError:
        return False


def keep_private(path: Path) -> None:
    """Let nobody but its owner read a file, which is made where it is not there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, FOR_THE_OWNER))
    except FileExistsError:
        with suppress(OSError):  # somebody else's, or on a disk that cannot be written
            path.chmod(path.stat().st_mode & FOR_THE_OWNER)


def append_line(path: Path, row: dict[str, Any]) -> None:
    """A line of JSON more, flushed to the disk."""
    with _named(path), path.open("a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with _named(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `target` once the block ends; after an error nothing changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(target)
    fresh.mkdir()
    old = fresh.with_suffix(".old")
    try:
        yield fresh
        if target.exists():
            os.replace(target, old)
        os.replace(fresh, target)
    except BaseException:
        with suppress(OSError):  # nothing was moved yet, or both were
            os.replace(old, target)
        raise
    finally:
        for left_over in (fresh, old):
            shutil.rmtree(left_over, ignore_errors=True)


def link(source: Path, target: Path) -> None:
    """Make `target` name the same bytes as `source`; copy them where the disk knows no hard links."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        write_atomic(target, source.read_bytes())
        return
    try:
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # rename(2) does nothing where both names are the same file already
