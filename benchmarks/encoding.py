"""From picture files to stored tokens, against the encoder's forward passes alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.comparison import Ratio, in_turns, median_and_spread, ratio_of, show
from toconv.config import compose
from toconv.hardware import keep_freed_memory, resolve_device
from toconv.tokens.encode_shards import encoder_batches
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.images import list_splits
from toconv.tokens.pixels import pixels

PART = 6  # one batch of so many is enough to time the forward passes alone


def measure(rounds: int = 2) -> list[Ratio]:
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        settings = compose({})
        pictures = [p for split in list_splits(settings.data).values() for p in split]
        encoder = load_encoder(settings.encoder, resolve_device(settings.hardware))
        batches = list(encoder_batches(pixels(pictures, settings.data, settings.encoder), settings.encoder.batch_size))
        images, count, part = sum(map(len, batches)), iter(range(1000)), batches[::PART]

        def store() -> None:
            prepare_store(compose({"data.tokens_dir": str(Path(folder, str(next(count))))}))

        def forward() -> None:
            for batch in part:
                encoder(batch)

        ours, theirs = in_turns(store, forward, rounds=rounds, warm_up=0)
    ours, theirs = [t / images for t in ours], [t / sum(map(len, part)) for t in theirs]
    each = [median_and_spread(t)[0] * 1e3 for t in (ours, theirs)]
    return [
        ratio_of(
            "encoding, file to stored token, against the encoder's forward",
            theirs,
            ours,
            0.9,
            f"{len(pictures)} photographs, {images} crops, {settings.encoder.name} in {encoder.dtype}, "
            f"{torch.get_num_threads()} threads: {each[0]:.1f} ms a crop against {each[1]:.1f} ms",
            "decoding and cropping share the two cores with the encoder; loading its weights, hashing and writing",
        )
    ]


if __name__ == "__main__":
    show(measure())
