"""Small trainings side by side on one card: in processes of their own, and stacked in one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.gpu.forked import at_once, once
from benchmarks.gpu.lab import Lab, Row, attempted
from benchmarks.gpu.stacked import StackedStep
from benchmarks.gpu.timing import wait

TRAINING = 1000  # steps that one training is counted as
START_SECONDS = 60.0  # that a process may take until it steps


def processes(lab: Lab) -> Iterator[Row]:
    """Launched singly, and as graphs where there is a GPU."""
    once(lambda: lab.training(lab.scale.small) is None, START_SECONDS)  # writes what all read
    for how in ("launched singly", "graph") if lab.is_gpu else ("launched singly",):
        for count in lab.scale.processes:
            yield attempted(
                {"how": f"processes, {how}", "trainings": count}, partial(_beside, lab, how == "graph", count)
            )


def _beside(lab: Lab, is_graph: bool, count: int) -> Row:
    work = partial(_steps_a_second, lab, is_graph)
    return _counted(sum(at_once([work] * count, START_SECONDS + lab.scale.together_seconds)))


def _steps_a_second(lab: Lab, is_graph: bool, ready: Callable[[], None]) -> float:
    training = lab.training(lab.scale.small, bf16=True)
    x_BNC, images_B = lab.batch(training, lab.scale.small.batch)
    step = training.captured(x_BNC, images_B) if is_graph else partial(training.step, x_BNC, images_B)
    for _ in range(3):
        step()
    wait(lab.device)
    ready()
    return _rate(lab, step)


def _rate(lab: Lab, step: Callable[[], object]) -> float:
    """Steps a second; the device is waited for now and then, so that launches do not run ahead without end."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < lab.scale.together_seconds:
        for _ in range(5):
            step()
        steps += 5
        wait(lab.device)
    return steps / (time.perf_counter() - start)


def stacked(lab: Lab) -> Iterator[Row]:
    """As many trainings as there were processes, in one step of torch.func.vmap over their weights. On a CPU in fp32
    alone: under vmap its layer norm takes no weights in fp32 beside tokens in bf16."""
    for precision in ("bf16", "fp32") if lab.is_gpu else ("fp32",):
        for count in lab.scale.processes:
            row = {"how": f"stacked by vmap, {precision}", "trainings": count}
            yield attempted(row, partial(_stacked, lab, precision == "bf16", count))


def _stacked(lab: Lab, bf16: bool, count: int) -> Row:
    training = lab.training(lab.scale.small, bf16)
    step = StackedStep(training, count)
    x_BNC, images_B = lab.batch(training, lab.scale.small.batch)
    for _ in range(3):
        step(x_BNC, images_B)
    return _counted(count * _rate(lab, lambda: step(x_BNC, images_B)))


def _counted(steps_s: float) -> Row:
    return {"steps_s": round(steps_s, 1), f"trainings_hour_of_{TRAINING}_steps": round(3600 * steps_s / TRAINING, 1)}
