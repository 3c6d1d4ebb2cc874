"""A training step against its matrix products at the card's own rate for them, and the memory that it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.gpu.lab import Lab, Row, attempted
from benchmarks.gpu.timing import PRECISIONS, Work, peak_gigabytes, tf32
from benchmarks.products import Product, Products, flops, matmuls
from toconv.training.loop import Training


def measure(lab: Lab) -> Iterator[Row]:
    """The goals' batch at each k and precision first, then other batches."""
    main, *others = lab.scale.large.batches
    for batches in ((main,), tuple(others)):
        for k in lab.scale.large.sizes:
            for is_bf16 in (True, False):
                names = [name for name, (bf16, _) in PRECISIONS.items() if bf16 is is_bf16]
                yield from _of(lab, k, is_bf16, names, batches)


def _of(lab: Lab, k: int, bf16: bool, names: list[str], batches: tuple[int, ...]) -> Iterator[Row]:
    training = lab.training(replace(lab.scale.large, k=k), bf16)
    for batch in batches:
        for name in names:
            yield attempted(
                {"k": k, "batch": batch, "precision": name}, lambda b=batch, n=name: timed(lab, training, b, n)
            )


def timed(lab: Lab, training: Training, batch: int, precision: str) -> Row:
    """Of a step as it is written, launched one operation at a time."""
    x_BNC, images_B = lab.batch(training, batch)

    def step() -> None:
        training.step(x_BNC, images_B)

    with tf32(PRECISIONS[precision][1]):
        found = counted(step)
        return {
            **against(lab, lab.milliseconds(step), found),
            "peak_gb": peak_gigabytes(step, lab.device),
            "starts_known": training.starts.at(images_B, training.k) is not None,
            "tokens_gb": round(x_BNC.nbytes / 1e9, 2),
            "tokens_copied_ms": round(lab.milliseconds(x_BNC.clone), 3),
        }


def counted(step: Work) -> Counter[Product]:
    """Of a step but the first, which computes what a training computes once."""
    step()
    with Products() as products:
        step()
    return products.found


def against(lab: Lab, step_ms: float, found: Counter[Product]) -> Row:
    """Under the precision that holds at the call."""
    products_ms, work = lab.milliseconds(matmuls(found, lab.device)), flops(found)
    return {
        "step_ms": round(step_ms, 3),
        "products_ms": round(products_ms, 3),
        "share": round(products_ms / step_ms, 3),
        "gflop": round(work / 1e9, 2),
        "tflop_s": round(work / step_ms / 1e9, 2),
        "products_tflop_s": round(work / products_ms / 1e9, 2),
    }
