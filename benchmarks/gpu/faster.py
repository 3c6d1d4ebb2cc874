"""The same step launched faster: captured as a CUDA graph, or compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks.gpu.lab import NEEDS_GPU, Lab, Row, attempted
from benchmarks.gpu.step import against, counted
from benchmarks.gpu.timing import PRECISIONS, peak_gigabytes, tf32, wait
from toconv.training.loop import Training

COMPILED = {"compiled, default": None, "compiled, reduce-overhead": "reduce-overhead"}  # None: as hardware.compile=true


def graph(lab: Lab) -> Iterator[Row]:
    """At the goals' size in each precision, then at the smaller batches, where launches cost most."""
    main, *others = lab.scale.large.batches
    yield from (_graph(lab, main, precision) for precision in PRECISIONS)
    yield from (_graph(lab, batch, "bf16") for batch in others)


def _graph(lab: Lab, batch: int, precision: str) -> Row:
    row = {"how": "graph", "k": lab.scale.large.k, "batch": batch, "precision": precision}
    return attempted(row, lambda: _captured(lab, batch, precision))


def _captured(lab: Lab, batch: int, precision: str) -> Row:
    bf16, allowed = PRECISIONS[precision]
    with tf32(allowed):
        plain, training = (lab.training(lab.scale.large, bf16) for _ in range(2))
        x_BNC, images_B = lab.batch(training, batch)
        found = counted(lambda: plain.step(x_BNC, images_B))
        eager_ms = lab.milliseconds(lambda: plain.step(x_BNC, images_B))
        captured = training.captured(x_BNC, images_B)
        captured()
        if not lab.is_gpu:
            return NEEDS_GPU
        times = against(lab, lab.milliseconds(captured), found)
        return times | {"eager_ms": round(eager_ms, 3), "peak_gb": peak_gigabytes(captured, lab.device)}


def compiled(lab: Lab) -> Iterator[Row]:
    """In bf16; the first step compiles."""
    for how, mode in COMPILED.items():
        row = {"how": how, "k": lab.scale.large.k, "batch": lab.scale.large.batch, "precision": "bf16"}
        if lab.is_gpu:
            yield attempted(row, lambda mode=mode: _compiled(lab, lambda: _compiling(lab, mode)))
        else:
            yield row | NEEDS_GPU


def _compiling(lab: Lab, mode: str | None) -> Training:
    if mode is None:
        return lab.training(lab.scale.large, True, hardware__compile=True)
    training = lab.training(lab.scale.large, True)
    for network in (training.compressor, training.decoder):
        network.compile(mode=mode)
    return training


def _compiled(lab: Lab, build: Callable[[], Training]) -> Row:
    training, plain = build(), lab.training(lab.scale.large, True)
    x_BNC, images_B = lab.batch(training, lab.scale.large.batch)
    found = counted(lambda: plain.step(x_BNC, images_B))
    start = time.perf_counter()
    for _ in range(3):  # compiles, then records graphs where the mode does
        training.step(x_BNC, images_B)
    wait(lab.device)
    first = time.perf_counter() - start

    def step() -> None:
        training.step(x_BNC, images_B)

    times = against(lab, lab.milliseconds(step), found)
    return times | {"compile_s": round(first, 1), "peak_gb": peak_gigabytes(step, lab.device)}
