"""Checkpoints: what one costs beside a step, and whether a training that goes on from one continues to the bit."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.lab import Lab, Row
from benchmarks.gpu.timing import GIGABYTE, wall_seconds
from toconv import checkpoint
from toconv.training.loop import PARTS, Training


def time_of(lab: Lab) -> Iterator[Row]:
    for name, tokens in (("CLIP ViT-L/14's shape", lab.scale.large), ("ViT-S/14's shape", lab.scale.small)):
        training, path = lab.training(tokens, bf16=True), lab.folder / "checkpoint.pt"
        x_BNC, images_B = lab.batch(training, tokens.batch)
        step_ms = lab.milliseconds(lambda: training.step(x_BNC, images_B))
        saves = [wall_seconds(lambda: checkpoint.save(path, training.state_dict()), lab.device) for _ in range(3)]
        save_ms = 1e3 * sorted(saves)[1]
        yield {
            "training": name,
            "checkpoint_gb": round(path.stat().st_size / GIGABYTE, 3),
            "checkpoint_ms": round(save_ms, 1),
            "step_ms": round(step_ms, 3),
            "steps_that_it_costs": round(save_ms / step_ms, 1),
        }


def resumed(lab: Lab) -> Iterator[Row]:
    """Two epochs at once, the same again, and the same with a checkpoint between the two."""
    for precision, bf16 in (("fp32", False), ("bf16", True)):
        whole, again = (_epochs(lab.training(lab.scale.small, bf16), 2) for _ in range(2))
        first, path = _epochs(lab.training(lab.scale.small, bf16), 1), lab.folder / "between.pt"
        checkpoint.save(path, first.state_dict())
        second = lab.training(lab.scale.small, bf16)
        second.load_state_dict(checkpoint.load(path))
        _epochs(second, 1)
        for what, other in (("run twice", again), ("resumed", second)):
            furthest = _furthest(whole, other)
            yield {
                "what": what,
                "precision": precision,
                "largest_difference_of_a_weight": furthest,
                "to_the_bit": furthest == 0,
            }


def _epochs(training: Training, count: int) -> Training:
    for _ in range(count):
        for images_B, x_BNC in training.train.shuffled(training.shuffle):
            training.step(x_BNC, images_B)
    return training


def _furthest(one: Training, other: Training) -> float:
    networks = [name for name in PARTS if isinstance(getattr(one, name), torch.nn.Module)]
    pairs = [
        (a, b)
        for name in networks
        for a, b in zip(getattr(one, name).parameters(), getattr(other, name).parameters(), strict=True)
    ]
    return max((a - b).abs().max().item() for a, b in pairs)
