"""What a plain Ray Tune script does: a function trainable that encodes its pictures itself, in every epoch."""

from __future__ import annotations

import sys
import time

import ray
import torch
from ray import tune

from toconv.config import compose
from toconv.tokens.encode_shards import encoder_batches
from toconv.tokens.encoders import load_encoder
from toconv.tokens.images import list_splits
from toconv.tokens.pixels import pixels


def trainable(config: dict[str, int]) -> None:
    """The encoding of an epoch alone, by one picture of config["part"]; the training that would follow is left out, in
    this script's favour."""
    torch.set_num_threads(1)
    settings = compose({})
    encoder = load_encoder(settings.encoder, torch.device("cpu"))
    splits = list_splits(settings.data)
    pictures = splits["train"] + splits["val"]
    some = pictures[:: config["part"]]
    start = time.perf_counter()
    for batch in encoder_batches(pixels(some, settings.data, settings.encoder), settings.encoder.batch_size):
        encoder(batch)
    took = time.perf_counter() - start
    tune.report({"seconds": took * len(pictures) / len(some)})


if __name__ == "__main__":
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"part": int(sys.argv[2])},
        tune_config=tune.TuneConfig(num_samples=int(sys.argv[1])),
        run_config=tune.RunConfig(verbose=0),
    ).fit()
    print("seconds an epoch:", max(result.metrics["seconds"] for result in results))
