"""How time grows with the number of trials, of images, of compressed tokens and of channels; and why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.comparison import REPOSITORY, seconds
from benchmarks.products import Products, flops, matmuls
from benchmarks.start_up import python
from benchmarks.synthetic import random_codes, synthetic_store
from toconv.config import compose
from toconv.hardware import keep_freed_memory
from toconv.progress import console
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

TRIALS, IMAGES, SIZES, CHANNELS = (1, 9), (1000, 4000), (1, 4, 6, 12, 16), (128, 384, 768, 1024)
SMALL = {f"model.{part}.width": 8 for part in ("compressor", "decoder", "critic")}
TRIVIAL = {  # a sweep whose trials are a step each, on 12 pictures
    "model.compressor.output_grid_size": 6,
    "model.compressor.init": "pool",
    "data.crops": 1,
    "data.train_pictures": 4,
    "data.val_pictures": 4,
    "data.test_pictures": 4,
    "training.epochs": 1,
    "training.test": "false",
    "training.batch_size": 4,
    "baselines": "false",
    **SMALL,
}
BATCH, STEPS = 32, 2
Curve = list[tuple[int, float]]


def draw(path: Path) -> list[str]:
    """Measure, draw the figure at `path`, and say in Markdown what its slopes come from."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        trials, images = by_trials(Path(folder)), by_images(Path(folder))
        sizes = by_step(Path(folder), [(k, 384, k) for k in SIZES])
        channels = by_step(Path(folder), [(6, c, c) for c in CHANNELS])
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    panels = figure.subplots(2, 2).flatten()
    start, each = line(trials)
    plot(panels[0], trials, "trials of a trivial sweep", "seconds", lambda n: start + each * n)
    plot(panels[1], images, "images", "seconds an epoch", lambda n: n * images[-1][1] / images[-1][0])
    for axes, (measured, products), what in ((panels[2], sizes, "k"), (panels[3], channels, "channels C")):
        plot(axes, measured, what, "seconds a step", None)
        axes.plot(*zip(*products, strict=True), "--", color="#64748b", label="its matrix products alone")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return [
        f"- **Trials**: {start:.1f} s + {each:.2f} s a trial. The first is imports, Ray's start, the tokens of 12 "
        "pictures and the report; the second a trial's networks, files, ledger entry and tracking, on two workers "
        "that are kept.",
        f"- **Images**: exponent {exponent(images):.2f}: batches are read from the memory map and nothing grows with "
        "the store but the number of steps.",
        f"- **k**: {ratio(sizes[0]):.2f}× from k = {SIZES[0]} to {SIZES[-1]}, its products {ratio(sizes[1]):.2f}×. The "
        "critic scores at most 16 tokens an image whatever k is; what grows is the k×k part of both networks. At k "
        "= 16, "
        "which does not divide 24, the grid is resampled by area.",
        f"- **C**: exponent {exponent(channels[0]):.2f} (products {exponent(channels[1]):.2f}): the branches' width is "
        "fixed, so that products and passes over the tokens both grow with C.",
    ]


def plot(axes: Axes, curve: Curve, what: str, unit: str, model: Callable[[int], float] | None) -> None:
    axes.plot(*zip(*curve, strict=True), "o-", color="#2f6fb5", label="measured")
    if model:
        axes.plot([n for n, _ in curve], [model(n) for n, _ in curve], "--", color="#64748b", label="as the text says")
        axes.legend(fontsize=8)
    axes.set_xlabel(what)
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)


def by_trials(folder: Path) -> Curve:
    """Wall time of whole sweeps whose trials are a step each, each with tokens of its own."""
    found = []
    for count in TRIALS:
        name = f"bench_growth_{count}"
        shutil.rmtree(REPOSITORY / "outputs" / name, ignore_errors=True)
        took = seconds(
            lambda: python(
                "run_sweep.py",
                "sweeps/grid_sizes.yaml",
                f"name={name}",
                f"trials={count}",
                f"data.tokens_dir={folder / name}",
                "sampler=random",
                *(f"{key}={value}" for key, value in TRIVIAL.items()),
            )
        )
        shutil.rmtree(REPOSITORY / "outputs" / name)
        found.append((count, took))
        console.print(f"{count} trials: {took:.1f} s")
    return found


def by_images(folder: Path) -> Curve:
    """An epoch of a narrow training over stores of so many images."""
    found = []
    for count in IMAGES:
        store = synthetic_store(folder / f"images{count}", count, 32)
        settings = compose({**SMALL, "training.batch_size": 128})
        random_codes(store, settings.model.compressor.output_grid_size)
        training = Training(settings, store, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        images_B, x_BNC = next(training.train.shuffled(generator))
        training.step(x_BNC, images_B)
        found.append((count, seconds(lambda: [training.step(x, i) for i, x in training.train.shuffled(generator)])))
        shutil.rmtree(store.folder)
        console.print(f"{count} images: {found[-1][1]:.1f} s an epoch")
    return found


def by_step(folder: Path, points: Sequence[tuple[int, int, int]]) -> tuple[Curve, Curve]:
    """(k, channels, x) → a training step in fp32, and its matrix products alone, both against x."""
    measured, products_alone = [], []
    for k, channels, x in points:
        store = stored(folder, channels)
        random_codes(store, k)
        training = Training(
            compose(
                {
                    "model.compressor.output_grid_size": k,
                    "training.batch_size": BATCH,
                    "hardware.mixed_precision": False,
                }
            ),
            store,
            torch.device("cpu"),
        )
        images_B, x_BNC = next(training.train.shuffled(torch.Generator().manual_seed(0)))
        training.step(x_BNC, images_B)  # what is computed once a training is not a step's
        with Products() as products:
            training.step(x_BNC, images_B)
        alone = matmuls(products.found)
        measured.append((x, min(seconds(lambda: training.step(x_BNC, images_B)) for _ in range(STEPS))))
        products_alone.append((x, min(seconds(alone) for _ in range(STEPS))))
        console.print(f"k={k}, C={channels}: {measured[-1][1]:.2f} s a step of {flops(products.found) / 1e9:.1f} GFLOP")
    return measured, products_alone


def stored(folder: Path, channels: int) -> TokenStore:
    path = folder / f"channels{channels}"
    return TokenStore(path) if path.exists() else synthetic_store(path, BATCH, channels)


def line(curve: Curve) -> tuple[float, float]:
    """Intercept and slope by least squares."""
    slope, intercept = np.polyfit(*zip(*curve, strict=True), 1)
    return float(intercept), float(slope)


def exponent(curve: Curve) -> float:
    """The p of time ∝ n^p, by least squares on the logarithms."""
    return float(np.polyfit(*np.log(list(zip(*curve, strict=True))), 1)[0])


def ratio(curve: Curve) -> float:
    return curve[-1][1] / curve[0][1]
