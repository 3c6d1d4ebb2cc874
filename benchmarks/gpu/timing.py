"""Milliseconds of work on a device. Nothing waits for the device between two rounds, so that launches run ahead."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

Work = Callable[[], Any]
GIGABYTE = 1e9
PRECISIONS = {  # name: whether autocast runs compressor and decoder in bf16, and whether fp32 products may be TF32's
    "bf16": (True, False),
    "bf16, rest tf32": (True, True),
    "tf32": (False, True),
    "fp32": (False, False),
}
MOST = 200  # rounds


def milliseconds(work: Work, device: torch.device, seconds: float, fewest: int = 5) -> float:
    """The median round, after two that are not counted and one that says how many fill `seconds`."""
    for _ in range(2):
        work()
    once = _rounds(work, device, 1)[0] / 1e3
    return statistics.median(_rounds(work, device, min(MOST, max(fewest, round(seconds / max(once, 1e-6))))))


def _rounds(work: Work, device: torch.device, count: int) -> list[float]:
    if device.type != "cuda":
        return [1e3 * wall_seconds(work, device) for _ in range(count)]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        work()
        mark.record()
    torch.cuda.synchronize(device)
    return [before.elapsed_time(after) for before, after in pairwise(marks)]


def wall_seconds(work: Work, device: torch.device) -> float:
    """From call to the device's end of it."""
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gigabytes(work: Work, device: torch.device) -> float | None:
    """That the allocator held at most while `work` ran, with all that was there before; None on a CPU."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    wait(device)
    return round(torch.cuda.max_memory_allocated(device) / GIGABYTE, 2)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether fp32 products and convolutions may be TF32's, on CUDA."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = allowed
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
