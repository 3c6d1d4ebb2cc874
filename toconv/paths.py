"""Every path of a sweep and of a trial, and how a file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
NO_LINKS = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK}  # what a disk without hard links says to one


@dataclass(frozen=True)
class TrialPaths:
    """The files of one training."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def machine(self) -> Path:
        """What the machine did in each epoch, where experiment.system_metrics asks for it."""
        return self.folder / "machine.jsonl"

    @property
    def latest(self) -> Path:
        return self.folder / "latest.pt"

    @property
    def best(self) -> Path:
        return self.folder / "best_model.pt"

    @property
    def worker(self) -> Path:
        """Which process trained here, and which GPUs it saw."""
        return self.folder / "worker.json"

    @property
    def error(self) -> Path:
        """The stack trace of a trial that failed unforeseen."""
        return self.folder / "error.txt"

    @property
    def finished(self) -> Path:
        """There once every epoch is done and the results are entered."""
        return self.folder / "finished"

    @property
    def lock(self) -> Path:
        return self.folder / ".lock"

    def epoch(self, n: int) -> Path:
        return self.folder / f"checkpoint_epoch_{n}.pt"


@dataclass(frozen=True)
class SweepPaths:
    """The files of one sweep, below `outputs/<name>`."""

    root: Path

    @property
    def request(self) -> Path:
        return self.root / "sweep.yaml"

    @property
    def study(self) -> Path:
        return self.root / "study.db"

    @property
    def spent(self) -> Path:
        return self.root / "spent.json"

    @property
    def results(self) -> Path:
        return self.root / "results.csv"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def fronts(self) -> Path:
        """The recommended compressor of each k, exported."""
        return self.root / "front"

    def front(self, k: int) -> Path:
        return self.fronts / f"k{k}"

    @property
    def figures(self) -> Path:
        """The report's figures as PNG and PDF, and nothing else."""
        return self.root / "figures"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def tune(self) -> Path:
        """Ray Tune's own files; nothing is read back from them."""
        return self.root / ".ray"

    def told(self) -> dict[str, Path]:
        """The files that tell of the whole sweep, as far as they are there, by their path below `root`."""
        files = [self.request, self.results, self.report, *sorted(self.figures.rglob("*"))]
        return {str(path.relative_to(self.root)): path for path in files if path.is_file()}

    def trial(self, trial_id: str) -> TrialPaths:
        return TrialPaths(self.root / "trials" / trial_id)


def write_atomic(path: Path, data: bytes | memoryview | str) -> None:
    """Write beside `path`, flush to the disk, then move into place: a reader sees the old or the new whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = data.encode() if isinstance(data, str) else data
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_new(path: Path, data: bytes) -> None:
    """As `write_atomic`, but a file that is there by then stays as it is."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
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


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `target` once the block ends; after an error nothing changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    old = fresh.with_suffix(".old")
    try:
        yield fresh
        fresh.chmod(0o755)
        if target.exists():
            os.replace(target, old)
        os.replace(fresh, target)
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
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # rename(2) does nothing where both names are the same file already
