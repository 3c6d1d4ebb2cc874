"""What this machine does: CPU, memory, GPUs. The only module that knows psutil and NVML."""

import getpass
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Self

from pydantic import FiniteFloat, TypeAdapter

from toconv.errors import disk
from toconv.paths import append_line
from toconv.settings import Group
from toconv.state_files import read_json_lines

SAMPLE_SECONDS = 5.0
MEGABYTE = 1e6


def sample() -> dict[str, float]:
    """The state of now by MLflow's names of system metrics; CPU utilization since the sample before."""
    import psutil  # optional

    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": used / MEGABYTE,
        "system_memory_usage_percentage": 100 * used / memory.total,
        **_gpus(),
    }


def runs(program: str) -> bool:
    """Whether a process of that name runs here; taken as true where nothing can tell."""
    try:
        import psutil  # optional
    except ImportError:
        return True
    return any(process.info["name"] == program for process in psutil.process_iter(["name"]))


def words_of(program: str) -> list[list[str]]:
    """How each process of that name here was called; none where nothing can tell."""
    try:
        import psutil  # optional
    except ImportError:
        return []
    found = psutil.process_iter(["name", "cmdline"])
    return [process.info["cmdline"] or [] for process in found if process.info["name"] == program]


def process_began(pid: int) -> float | None:
    """When a process of this machine began, in seconds since the epoch; None where there is none of that number."""
    import psutil  # optional

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def user() -> str | None:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return None


def _gpus() -> dict[str, float]:
    """Nothing where there is no GPU of NVIDIA's, or no package nvidia-ml-py to ask for it."""
    found = {}
    with suppress(ImportError):
        import pynvml  # optional

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            for i in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(i)
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                found[f"gpu_{i}_utilization_percentage"] = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                found[f"gpu_{i}_memory_usage_megabytes"] = memory.used / MEGABYTE
                found[f"gpu_{i}_memory_usage_percentage"] = 100 * memory.used / memory.total
    return found


def read_means(path: Path) -> dict[int, dict[str, float]]:
    """{epoch: means} that an EpochMeter wrote."""
    return {row.epoch: row.metrics for row in read_json_lines(path, TypeAdapter(_Means))}


class _Means(Group):
    """A line of the file."""

    epoch: int
    metrics: dict[str, FiniteFloat]


class EpochMeter:
    """Samples beside a training until its block ends; writes the means of each epoch as a line of `path`: {epoch,
    metrics}."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._samples: dict[str, list[float]] = defaultdict(list)
        self._lock, self._stop = threading.Lock(), threading.Event()
        sample()  # the first one has no CPU utilization
        threading.Thread(target=self._work, daemon=True, name="machine").start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._take()

    def _take(self) -> None:
        found = sample()
        with self._lock:
            for name, value in found.items():
                self._samples[name].append(value)

    def note(self, epoch: int) -> None:
        """Of the samples since the epoch before, one taken now among them."""
        self._take()
        with self._lock:
            means = {f"system/{name}": round(sum(values) / len(values), 3) for name, values in self._samples.items()}
            self._samples.clear()
        with disk(f"{self._path}: not written"):
            append_line(self._path, {"epoch": epoch, "metrics": means})
