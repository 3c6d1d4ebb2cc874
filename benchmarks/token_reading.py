"""How fast shuffled batches come out of a token store, against memcpy of the same bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.comparison import Ratio, in_turns, median_and_spread, ratio_of, show
from benchmarks.synthetic import synthetic_store
from toconv.hardware import keep_freed_memory
from toconv.tokens.batches import Batches

IMAGES, CHANNELS, BATCH = 1024, 384, 64


def measure(rounds: int = 15) -> list[Ratio]:
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        store = synthetic_store(Path(folder, "tokens"), IMAGES, CHANNELS)
        batches = Batches(store, "train", BATCH, torch.device("cpu"))
        generator = torch.Generator().manual_seed(0)
        orders = [b.sort().values for b in torch.randperm(IMAGES, generator=generator).split(BATCH)]
        source = torch.randn(BATCH, store.grid_size**2, CHANNELS).half()
        target, same = torch.empty_like(source), store.maps("train")
        count, size = IMAGES // BATCH, source.numel() * 2

        def read() -> None:
            for _ in batches.raw(orders):
                pass

        def standardised() -> None:
            for _ in batches.shuffled(generator):
                pass

        def memcpy() -> None:
            """The store's own bytes, in their order."""
            for tokens_INC in same:
                for piece_BNC in tokens_INC.split(BATCH):
                    target[: len(piece_BNC)].copy_(piece_BNC)

        def buffers() -> None:
            for _ in range(count):
                target.copy_(source)

        ours, whole, theirs, between = in_turns(read, standardised, memcpy, buffers, rounds=rounds)
    speed = [count * size / median_and_spread(t)[0] / 1e9 for t in (ours, theirs, whole, between)]
    return [
        ratio_of(
            "token reading against memcpy",
            theirs,
            ours,
            0.8,
            f"{BATCH}×{store.grid_size**2}×{CHANNELS} fp16 from {IMAGES // 128} shards: {speed[0]:.1f} GB/s, memcpy "
            f"{speed[1]:.1f} GB/s from the same map in its order ({speed[3]:.1f} GB/s between two buffers that stay); "
            f"standardised to fp32 as well {speed[2]:.1f} GB/s of fp16",
            "one index_select of grid rows for each shard that a batch touches, from the memory map into a kept batch",
        )
    ]


if __name__ == "__main__":
    show(measure())
