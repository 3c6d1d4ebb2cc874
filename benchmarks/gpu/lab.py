"""What the parts share: sizes, the device, a folder, and trainings on tokens of random numbers."""

# B batch, N tokens of the grid, C channels, D channels of a block

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.plain_settings import plain_settings
from benchmarks.gpu.scale import Scale, Tokens
from benchmarks.gpu.timing import Work, milliseconds
from benchmarks.synthetic import random_codes, synthetic_store
from toconv.tokens.batches import Batches
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

Row = dict[str, Any]  # one line of a part's table: plain values
HELD_OUT = 16  # images
NEEDS_GPU = {"not_measured": "needs a GPU"}
NO_DECODER = {"not_measured": "no decoder here"}


@dataclass(frozen=True)
class Lab:
    scale: Scale
    device: torch.device
    folder: Path

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def milliseconds(self, work: Work) -> float:
        return milliseconds(work, self.device, self.scale.seconds, self.scale.rounds)

    def store(self, tokens: Tokens) -> TokenStore:
        """Written once for all parts, a half-written one anew."""
        folder = self.folder / f"tokens-{tokens.channels}"
        if not (folder / "manifest.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            synthetic_store(folder, tokens.images, tokens.channels, tokens.grid_size, HELD_OUT)
        return TokenStore(folder)

    def training(
        self, tokens: Tokens, bf16: bool = False, device: torch.device | None = None, **other: Any
    ) -> Training:
        """As the defaults have it, at the sizes of `tokens`."""
        sizes = {"model__compressor__output_grid_size": tokens.k, "training__batch_size": tokens.batch}
        launched_singly = {"hardware__mixed_precision": bf16, "hardware__compile": False}
        settings = plain_settings(**{**tokens.settings, **sizes, **launched_singly, **other})
        store = self.store(tokens)
        random_codes(store, settings.model.compressor.output_grid_size)
        return Training(settings, store, device or self.device)

    def batch(self, training: Training, images: int) -> tuple[torch.Tensor, torch.Tensor]:
        """x_BNC and images_B, as `Training.step` takes them, images again and again where there are fewer."""
        images_B = torch.arange(images) % training.train.images
        known = Batches(training.store, "train", min(images, training.train.images), training.device)
        x_BNC = next(known.at(images_B[: training.train.images]))
        return x_BNC[images_B.to(x_BNC.device)], images_B


def attempted(row: Row, measure: Callable[[], Row]) -> Row:
    """The row with what was measured, or with why it was not: one size that fails leaves the others."""
    try:
        return row | measure()
    except Exception as error:
        return row | {"error": said(error)}


def said(error: BaseException) -> str:
    """Its kind, and the beginning of its text in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


Part = Callable[[Lab], Iterator[Row]]
