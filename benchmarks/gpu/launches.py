"""Kernels of a step, what takes its time, how long the card waits, and where the host waits for the card."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.lab import NEEDS_GPU, Lab, Row, attempted
from benchmarks.gpu.timing import wall_seconds
from benchmarks.products import HostReads
from toconv.training.loop import Training

STEPS, TOP = 3, 12  # profiled; kernels that are named
HOST_WAITS = "host waits in a log interval"
A_WAIT = "called a synchronizing CUDA operation"  # torch's warning of each; it warns once of the mode itself


def measure(lab: Lab) -> Iterator[Row]:
    tokens = lab.scale.large
    training = lab.training(tokens, bf16=True)
    x_BNC, images_B = lab.batch(training, tokens.batch)

    def step() -> None:
        training.step(x_BNC, images_B)

    step()
    with HostReads() as seen:
        step()
    yield {"what": "operators that a step dispatches", "value": seen.operators}
    yield {"what": "numbers that the host reads in a step", "value": seen.reads}
    yield attempted({"what": HOST_WAITS}, lambda: host_waits(lab))
    if lab.is_gpu:
        yield from profiled(lab, step)
    else:
        yield {"what": "kernels"} | NEEDS_GPU


def host_waits(lab: Lab) -> Row:
    """Of the steps between two reads of the losses and that read, batches from the store among them; on CUDA as torch
    warns of them, which says where."""
    small = lab.training(lab.scale.small, bf16=True)
    images_B, x_BNC = next(small.train.shuffled(small.shuffle))  # a GPU reads the split once, to keep it
    small.step(x_BNC, images_B)  # computes what is computed once
    pending = torch.zeros((), device=lab.device)
    with warnings.catch_warnings(record=True) as seen, HostReads() as mode:
        warnings.simplefilter("always")
        if lab.is_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            for images_B, x_BNC in islice(_again(small), small.settings.training.log_every):
                pending = pending + small.step(x_BNC, images_B).sum()
            pending.item()
        finally:
            if lab.is_gpu:
                torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in seen if A_WAIT in str(w.message)] if lab.is_gpu else []
    places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in waits)
    return {
        "value": len(waits) if lab.is_gpu else mode.reads,
        "where": "; ".join(f"{place} × {count}" for place, count in places.most_common(6)),
    }


def _again(training: Training) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from training.train.shuffled(training.shuffle)


def profiled(lab: Lab, step: Callable[[], None]) -> Iterator[Row]:
    """Kernels a step, the share of the time in which one runs, and those that take most."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities):
        step()  # the first one starts CUPTI
    with profile(activities=activities) as profiler:
        took = wall_seconds(lambda: [step() for _ in range(STEPS)], lab.device)
    of_card = (event for event in profiler.key_averages() if event.device_type.name == "CUDA")
    kernels = [event for event in of_card if not event.is_user_annotation]  # as torch's own table has it
    busy = sum(event.self_device_time_total for event in kernels) / 1e6
    yield {"what": "kernels launched in a step", "value": round(sum(event.count for event in kernels) / STEPS, 1)}
    yield {"what": "share of the time in which a kernel runs, profiled", "value": round(busy / took, 3)}
    for event in sorted(kernels, key=lambda event: -event.self_device_time_total)[:TOP]:
        share = event.self_device_time_total / 1e6 / busy
        yield {"what": event.key[:90], "value": f"{share:.1%}, {event.count / STEPS:g} a step"}
