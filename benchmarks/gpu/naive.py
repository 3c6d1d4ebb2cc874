"""The same networks stepped as a first implementation does it, against ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.gpu.lab import Lab, Row
from benchmarks.gpu.timing import wall_seconds
from benchmarks.naive_step import NaiveStep


def measure(lab: Lab) -> Iterator[Row]:
    """In fp32, as it is written; ours in fp32 and in bf16, launched singly and, on a GPU, as a graph."""
    tokens = lab.scale.large
    naive = NaiveStep(lab.training(tokens))
    x_BNC, images_B = lab.batch(naive.training, tokens.batch)
    naive.step(x_BNC)
    rounds = [wall_seconds(lambda: naive.step(x_BNC), lab.device) for _ in range(lab.scale.naive_rounds)]
    naive_ms = 1e3 * statistics.median(rounds)
    for precision in ("fp32", "bf16"):
        training = lab.training(tokens, precision == "bf16")
        ours_ms = lab.milliseconds(lambda t=training: t.step(x_BNC, images_B))
        yield _row(f"{precision}, launched singly", naive_ms, ours_ms)
        if lab.is_gpu:
            captured = lab.training(tokens, precision == "bf16").captured(x_BNC, images_B)
            yield _row(f"{precision}, graph", naive_ms, lab.milliseconds(captured))


def _row(ours: str, naive_ms: float, ours_ms: float) -> Row:
    times = {"naive_ms": round(naive_ms, 1), "ours_ms": round(ours_ms, 3)}
    return {"ours": ours, **times, "times_faster": round(naive_ms / ours_ms, 2)}
