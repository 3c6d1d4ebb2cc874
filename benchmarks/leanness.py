"""Distortion against device-seconds for three sizes of the networks, on the embedded default: is the default on the
knee?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from toconv.analysis.pareto import nondominated
from toconv.config import compose
from toconv.evaluation.distortion import evaluate
from toconv.evaluation.perception import PerceptionReference
from toconv.hardware import keep_freed_memory, resolve_device
from toconv.models.baselines import Fitting, fit_baselines
from toconv.progress import console
from toconv.tokens.batches import Batches
from toconv.tokens.codes import linear_codes
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

WIDTHS, EPOCHS = (96, 192, 384), (1, 3)
MARKS = "so^D"
Point = tuple[float, float]  # device-seconds, validation distortion at the last epoch


def draw(path: Path) -> list[str]:
    """Train, draw the figure at `path`, and say in Markdown what it shows."""
    keep_freed_memory()
    default = compose({})
    store, device = TokenStore(prepare_store(default)), resolve_device(default.hardware)
    free = baselines(store, device, default.model.compressor.output_grid_size)  # and the linear code, once a store
    trained(store, device, WIDTHS[0], 1)  # has what readers of a store read computed, once a store
    curves = {width: [trained(store, device, width, epochs) for epochs in EPOCHS] for width in WIDTHS}
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    for mark, (width, curve) in zip(MARKS, curves.items(), strict=False):
        chosen = width == default.model.compressor.width
        axes.plot(*zip(*curve, strict=True), f"{mark}-", label=f"width {width}{', the default' if chosen else ''}")
    for style, (name, distortion) in zip(("--", ":"), free.items(), strict=True):
        axes.axhline(distortion, linestyle=style, color="#64748b", label=name)
    axes.set_xlabel("device-seconds of a training")
    axes.set_ylabel("distortion (FVU), validation")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return [
        "| width | " + " | ".join(f"{e} epochs" for e in EPOCHS) + " |",
        "|---" * (1 + len(EPOCHS)) + "|",
        *(
            f"| {width} | " + " | ".join(f"{d:.4f} in {s:.0f} s" for s, d in curve) + " |"
            for width, curve in curves.items()
        ),
        "",
        "Baselines: " + ", ".join(f"{name} {distortion:.4f}" for name, distortion in free.items()) + ". No other "
        "training has both less distortion and fewer device-seconds than " + ", ".join(lean(curves)) + ".",
    ]


def lean(curves: Mapping[int, Sequence[Point]]) -> list[str]:
    """The trainings that no other dominates, from cheap to dear."""
    points = {
        f"width {width} at {epochs} epochs": point
        for width, curve in curves.items()
        for epochs, point in zip(EPOCHS, curve, strict=True)
    }
    return sorted(nondominated(points), key=points.__getitem__)


def trained(store: TokenStore, device: torch.device, width: int, epochs: int) -> Point:
    """One training of so many epochs, with the schedule of that length."""
    settings = compose({"model.compressor.width": width, "model.decoder.width": width, "training.epochs": epochs})
    start = time.perf_counter()
    last = [result.metrics["distortion"] for result in Training(settings, store, device).epochs()][-1]
    took = time.perf_counter() - start
    console.print(f"width {width}, {epochs} epochs: distortion {last:.4f} in {took:.1f} s")
    return took, last


def baselines(store: TokenStore, device: torch.device, k: int) -> Mapping[str, float]:
    train, val = (Batches(store, split, 32, device) for split in ("train", "val"))
    reference = PerceptionReference.from_batches(val)
    with torch.inference_mode():
        found = {
            name: evaluate(b.compress, b.decompress, val, reference)["distortion"]
            for name, b in fit_baselines(Fitting(train, store.grid_size, k, linear_codes(store, k, device)))
            if name in {"pool", "linear"}
        }
    return found
