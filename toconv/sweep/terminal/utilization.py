"""What Ray and this machine do while a sweep runs, sampled beside it, as one line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from toconv.machine import sample

SECONDS = 2.0
GIGABYTE_OF_MEGABYTES = 1e3


class Utilization:
    """A thread asks, so that a Ray or a driver that hangs does not hold up the sweep."""

    def __init__(self, cluster: Callable[[], Mapping[str, tuple[float, float]]]) -> None:
        """`cluster` gives (in use, present) by resource."""
        self._cluster, self._stop = cluster, threading.Event()
        self._held: Mapping[str, tuple[float, float]] = {}
        self._machine: Mapping[str, float] = {}
        self._thread = threading.Thread(target=self._work, daemon=True, name="utilization")

    def __enter__(self) -> Utilization:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS)

    def _work(self) -> None:
        while not self._stop.wait(SECONDS):
            try:
                self._machine = sample()
                self._held = self._cluster()
            except Exception:
                continue

    def parts(self) -> list[str]:
        """What is known, the most important first."""
        return describe(self._held, self._machine)


def describe(held: Mapping[str, tuple[float, float]], machine: Mapping[str, float]) -> list[str]:
    """Resources that Ray has given to trials, then how busy this machine is."""
    parts = []
    if held:
        parts.append("Ray: " + ", ".join(f"{used:g}/{total:g} {name}" for name, (used, total) in held.items()))
    if not machine:
        return parts
    gpus = [value for name, value in machine.items() if name.startswith("gpu_") and "_utilization" in name]
    memory = [value for name, value in machine.items() if name.startswith("gpu_") and "memory_usage_perc" in name]
    if gpus:
        parts.append(f"GPU {sum(gpus) / len(gpus):.0f} % busy, memory {sum(memory) / len(memory):.0f} %")
    parts.append(f"CPU {machine['cpu_utilization_percentage']:.0f} % busy")
    parts.append(
        f"memory {machine['system_memory_usage_megabytes'] / GIGABYTE_OF_MEGABYTES:.1f} GB "
        f"({machine['system_memory_usage_percentage']:.0f} %)"
    )
    return parts
