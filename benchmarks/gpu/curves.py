"""Losses of the same training on the CPU and on the GPU, in fp32, in bf16 and captured: how far they part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice

import torch

from benchmarks.gpu.lab import Lab, Row, attempted
from benchmarks.gpu.timing import tf32
from toconv.evaluation.metrics import DIAGNOSTICS
from toconv.training.captured import CapturedStep
from toconv.training.loop import Training

CPU = torch.device("cpu")
SHOWN = ("L_ae_mse", "L_ae_cosine")  # L_disc and L_gen have no zero of their own


def measure(lab: Lab) -> Iterator[Row]:
    """Against the CPU in fp32. Generators of CPU and GPU draw differently: what other draws alone make of the losses is
    the yardstick."""
    reference = _curve(lab, _training(lab, device=CPU))
    yield {"run": "CPU, fp32", **_said(lab, reference, reference)}
    other = _training(lab, device=CPU)
    other.draws.manual_seed(1)
    yield {"run": "CPU, fp32, other draws", **_said(lab, _curve(lab, other), reference)}
    for name, bf16, is_graph in _runs(lab):
        yield attempted({"run": name}, partial(_compared, lab, bf16, is_graph, reference))


def _runs(lab: Lab) -> list[tuple[str, bool, bool]]:
    """Name, whether in bf16, whether captured."""
    where = "GPU" if lab.is_gpu else "CPU"
    plain = [(f"{where}, fp32", False, False), (f"{where}, bf16", True, False)]
    captured = "graph-captured" if lab.is_gpu else "prepared for a graph"
    return [*plain, (f"{where}, fp32, {captured}", False, True), (f"{where}, bf16, {captured}", True, True)]


def _compared(lab: Lab, bf16: bool, is_graph: bool, reference: torch.Tensor) -> Row:
    with tf32(False):
        return _said(lab, _curve(lab, _training(lab, bf16), is_graph), reference)


def _training(lab: Lab, bf16: bool = False, device: torch.device | None = None) -> Training:
    """Whose schedule ends with the steps that are compared."""
    small = lab.scale.small
    return lab.training(small, bf16, device, training__epochs=-(-lab.scale.steps * small.batch // small.images))


def _curve(lab: Lab, training: Training, is_graph: bool = False) -> torch.Tensor:
    """(steps, DIAGNOSTICS) on the CPU, read at the end."""
    captured: CapturedStep | None = None
    found = []
    for images_B, x_BNC in islice(_epochs(training), lab.scale.steps):
        if is_graph and captured is None:
            captured = training.captured(x_BNC, images_B)
        found.append((captured(x_BNC, images_B) if captured else training.step(x_BNC, images_B)).clone())
    return torch.stack(found).cpu()


def _epochs(training: Training) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from training.train.shuffled(training.shuffle)


def _said(lab: Lab, found: torch.Tensor, reference: torch.Tensor) -> Row:
    row: Row = {"steps": len(found)}
    for name in SHOWN:
        column = [*DIAGNOSTICS].index(name)
        ours, theirs = found[:, column], reference[:, column]
        row |= {
            f"{name}_first": float(f"{ours[0].item():.6g}"),
            f"{name}_last": float(f"{ours[-1].item():.6g}"),
            f"{name}_furthest_share": float(f"{((ours - theirs).abs() / theirs.abs()).max().item():.3g}"),
        }
    return row
