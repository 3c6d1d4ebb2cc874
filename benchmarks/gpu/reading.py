"""What reading tokens adds to a step: a split kept on the GPU, and one that travels from pinned memory."""

# B batch, I images, N tokens of the grid, C channels

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.lab import Lab, Row, attempted, random_codes
from benchmarks.gpu.plain_settings import plain_settings
from benchmarks.gpu.timing import GIGABYTE, wall_seconds
from benchmarks.synthetic import write_manifest
from toconv.paths import free_bytes
from toconv.tokens import batches
from toconv.tokens.manifest import SHARD_CROPS
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

HELD_PART = 0.2  # of the store's shards, in the one that is kept on the GPU


def measure(lab: Lab) -> Iterator[Row]:
    started = time.perf_counter()
    whole, part = stores(lab)
    size = sum(path.stat().st_size for path in whole.folder.glob("*.tokens.fp16"))
    took = time.perf_counter() - started
    yield {"how": "store written", "store_gb": round(size / GIGABYTE, 2), "gb_s": round(size / GIGABYTE / took, 2)}
    ways = (
        ("kept on the GPU", part, 1e9, False),
        ("pinned memory, file cache warm", part, 0.0, False),
        ("pinned memory, file cache cold", whole, 0.0, True),
    )
    for how, store, share, cold in ways:
        with held_share(share):
            yield attempted({"how": how if lab.is_gpu else f"CPU ({how})"}, lambda s=store, c=cold: read(lab, s, c))


@contextmanager
def held_share(share: float) -> Iterator[None]:
    """Of a GPU's free memory that a split may take."""
    before, batches.HELD_SHARE = batches.HELD_SHARE, share
    try:
        yield
    finally:
        batches.HELD_SHARE = before


def read(lab: Lab, store: TokenStore, cold: bool) -> Row:
    """Milliseconds a batch of reading alone, of the step alone, and of both as a training runs them."""
    training, count = _training(lab, store), lab.scale.read_batches
    if cold:
        forget(store)
    else:
        _worked_through(training, 2, False)  # to the GPU, or into the file cache
        training.store.read("train", torch.arange(min(store.count("train"), count * training.train.batch_size)))
    alone_ms = 1e3 * wall_seconds(lambda: _worked_through(training, count, False), lab.device) / count
    x_BNC, images_B = lab.batch(training, training.train.batch_size)
    step_ms = lab.milliseconds(lambda: training.step(x_BNC, images_B))
    if cold:
        forget(store)
    both_ms = 1e3 * wall_seconds(lambda: _worked_through(training, count, True), lab.device) / count
    return {
        "store_gb": round(store.count("train") * x_BNC[0].nbytes / 2 / GIGABYTE, 2),
        "batch": len(x_BNC),
        "read_ms": round(alone_ms, 3),
        "step_ms": round(step_ms, 3),
        "both_ms": round(both_ms, 3),
        "share_of_step": round(both_ms / step_ms - 1, 3),
        "gb_s": round(x_BNC.nbytes / 2 / alone_ms / 1e6, 2),
    }


def _training(lab: Lab, store: TokenStore) -> Training:
    tokens = lab.scale.large
    sizes = {"model__compressor__output_grid_size": tokens.k, "training__batch_size": tokens.batch}
    random_codes(store, tokens.k)
    settings = plain_settings(**{**tokens.settings, **sizes, "hardware__mixed_precision": True})
    return Training(settings, store, lab.device)


def _worked_through(training: Training, count: int, is_trained: bool) -> None:
    """So many batches, of as many epochs as they take."""
    for images_B, x_BNC in islice(_epochs(training), count):
        if is_trained:
            training.step(x_BNC, images_B)


def _epochs(training: Training) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    while True:
        yield from training.train.shuffled(training.shuffle)


def forget(store: TokenStore) -> None:
    """Have the system drop the store's files from its cache, as posix_fadvise(2) asks."""
    for path in store.folder.glob("*.tokens.fp16"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def stores(lab: Lab) -> tuple[TokenStore, TokenStore]:
    """A store as large as the scale asks for, or as could be written in its seconds and takes half of the room on its
    disk; and one of its first shards."""
    tokens, whole, part = lab.scale.large, lab.folder / "many-tokens", lab.folder / "some-tokens"
    for folder in (whole, part):
        folder.mkdir()
    each = min(SHARD_CROPS, tokens.batch)
    noise_INC = torch.randn(each, tokens.grid_size**2, tokens.channels).half().numpy()
    content, entry = noise_INC.tobytes(), {"split": "train", "images": each, "width": tokens.channels, "sha256": {}}
    shards: dict[str, Any] = {}
    started, most_bytes = time.perf_counter(), min(lab.scale.store_bytes, free_bytes(lab.folder) // 2)
    while len(shards) * len(content) < most_bytes or len(shards) < 2 * tokens.batch // each:
        if time.perf_counter() - started > lab.scale.write_seconds and len(shards) >= 2 * tokens.batch // each:
            break
        name = f"train-{len(shards):05d}"
        (whole / f"{name}.tokens.fp16").write_bytes(content)
        shards[name] = entry
    few = dict(islice(shards.items(), max(2 * tokens.batch // each, round(HELD_PART * len(shards)))))
    for name in few:
        os.link(whole / f"{name}.tokens.fp16", part / f"{name}.tokens.fp16")
    return _complete(lab, whole, shards), _complete(lab, part, few)


def _complete(lab: Lab, folder: Path, shards: dict[str, Any]) -> TokenStore:
    """With the shard of validation tokens that a training asks for."""
    tokens = lab.scale.large
    zeros = torch.zeros(1, tokens.grid_size**2, tokens.channels).half().numpy().tobytes()
    for split in ("val", "test"):
        (folder / f"{split}-00000.tokens.fp16").write_bytes(zeros)
        shards[f"{split}-00000"] = {"split": split, "images": 1, "width": tokens.channels, "sha256": {}}
    write_manifest(folder, tokens.grid_size, tokens.channels, shards)
    return TokenStore(folder)
