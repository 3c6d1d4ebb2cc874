"""A training step against the matrix products in it, in bf16 against fp32, and against the same done naively."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.comparison import Ratio, in_turns, median_and_spread, processor, ratio_of, show
from benchmarks.naive_step import NaiveStep
from benchmarks.products import Products, flops, matmuls
from benchmarks.synthetic import random_codes, synthetic_store
from toconv.config import compose
from toconv.hardware import bf16_is_fast, keep_freed_memory
from toconv.settings import Settings
from toconv.sweep.plan import gemm_rate
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

GRID_SIZE, BATCH = 6, 32
FLOORS = {1024: 0.75, 384: 0.60}
MIXED_FLOOR = 1.25


def measure(rounds: int = 5) -> list[Ratio]:
    keep_freed_memory()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for channels, floor in FLOORS.items():
            store = synthetic_store(Path(folder, str(channels)), 64, channels)
            random_codes(store, GRID_SIZE)
            found += _of_width(store, channels, floor, rounds)
    return found


def _of_width(store: TokenStore, channels: int, floor: float, rounds: int) -> list[Ratio]:
    fp32, bf16 = (Training(_settings(mixed), store, torch.device("cpu")) for mixed in (False, True))
    naive = NaiveStep(Training(_settings(False), store, torch.device("cpu")))
    images_B, x_BNC = next(fp32.train.shuffled(torch.Generator().manual_seed(0)))
    for training in (fp32, bf16):
        training.step(x_BNC, images_B)  # what is computed once a training is not a step's
    with Products() as products:
        fp32.step(x_BNC, images_B)
    peak = matmuls(products.found)
    works = [lambda: fp32.step(x_BNC, images_B), peak, lambda: bf16.step(x_BNC, images_B), lambda: naive.step(x_BNC)]
    ours, gemm, mixed, textbook = in_turns(*works, rounds=rounds, warm_up=1)
    middle = {
        name: median_and_spread(t)[0]
        for name, t in {"ours": ours, "gemm": gemm, "mixed": mixed, "naive": textbook}.items()
    }
    work, size = flops(products.found) / 1e9, f"C={channels}, k={GRID_SIZE}, B={BATCH}"
    return [
        ratio_of(
            f"training step against its matrix products, C={channels}",
            gemm,
            ours,
            floor,
            f"{size}, fp32: {middle['ours'] * 1e3:.0f} ms for {work:.1f} GFLOP ({work / middle['ours']:.0f} "
            f"GFLOP/s), the products alone {work / middle['gemm']:.0f} GFLOP/s",
            "passes over B×576×C tensors: pooling, up-sampling, the loss and its gradient, all memory-bound",
        ),
        _of_mixed_precision(
            channels, ours, mixed, f"{size}: {middle['mixed'] * 1e3:.0f} ms against {middle['ours'] * 1e3:.0f} ms"
        ),
        ratio_of(
            f"the same networks stepped naively against ours, C={channels}",
            textbook,
            ours,
            2.0,
            f"{size}, fp32: {middle['naive'] * 1e3:.0f} ms against {middle['ours'] * 1e3:.0f} ms",
            "the networks' own products, which both do",
        ),
    ]


def _of_mixed_precision(channels: int, ours: list[float], mixed: list[float], times: str) -> Ratio:
    """`times` of both, in words."""
    bf16_rate, fp32_rate = (gemm_rate(torch.device("cpu"), dtype) for dtype in (torch.bfloat16, torch.float32))
    return without_fast_bf16(
        bf16_rate / fp32_rate,
        ratio_of(
            f"mixed precision against fp32, C={channels}",
            ours,
            mixed,
            MIXED_FLOOR,
            f"{times}; a product of 1024×1024 matrices runs at {bf16_rate / fp32_rate:.2f} times fp32's rate in bf16 "
            f"on this CPU, and hardware.mixed_precision=auto is {str(bf16_is_fast(torch.device('cpu'))).lower()}",
            "how fast the CPU multiplies bf16; critic, penalty, losses and pooling stay fp32",
        ),
    )


def without_fast_bf16(rate: float, ratio: Ratio) -> Ratio:
    """Marked not applicable where the processor has no fast bf16 by its features, and a product timed just now ran at
    this `rate` of fp32's, below the floor. A processor whose features promise more has to keep it."""
    if bf16_is_fast(torch.device("cpu")) or rate >= ratio.floor:
        return ratio
    return replace(ratio, not_applicable=f"bf16 products run at {rate:.2f} of fp32's rate on this CPU ({processor()})")


def _settings(mixed: bool) -> Settings:
    return compose(
        {
            "model.compressor.output_grid_size": GRID_SIZE,
            "training.batch_size": BATCH,
            "hardware.mixed_precision": mixed,
        }
    )


if __name__ == "__main__":
    show(measure())
