"""Mean and standard deviation of each channel over training tokens, from sums that lie beside each shard."""

# I images of a shard, N tokens of an image, C channels

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from toconv.tokens.store import memory_map

SUMS = ".sums.fp64"  # behind the name of a shard of training pictures
SPREAD = 1e-6  # standard deviations below this are taken as it: a channel that never varies


def sums(tokens_INC: torch.Tensor) -> torch.Tensor:
    """(2, C) float64: of the tokens and of their squares, over images and positions. Image by image: the float64 of
    one stay in a processor's cache."""
    total_2C = torch.zeros(2, tokens_INC.shape[2], dtype=torch.float64, device=tokens_INC.device)
    for tokens_NC in tokens_INC:
        x_NC = tokens_NC.double()
        total_2C += torch.stack([x_NC.sum(0), x_NC.square().sum(0)])
    return total_2C


def mean_and_std(folder: Path, manifest: Mapping[str, Any], tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(C,) float64 each, of a store whose pictures have so many `tokens`."""
    training = {name: entry for name, entry in manifest["shards"].items() if entry["split"] == "train"}
    total_2C = torch.stack([_sums_of_shard(folder, name, entry) for name, entry in training.items()]).sum(0)
    mean_C, square_C = total_2C / (tokens * sum(entry["images"] for entry in training.values()))
    return mean_C, (square_C - mean_C.square()).clamp(min=SPREAD**2).sqrt()


def _sums_of_shard(folder: Path, name: str, entry: Mapping[str, Any]) -> torch.Tensor:
    """Shards of earlier versions have none: their tokens are read."""
    if f"{name}{SUMS}" in entry["sha256"]:
        content = bytearray((folder / f"{name}{SUMS}").read_bytes())
        return torch.frombuffer(content, dtype=torch.float64).view(2, -1)
    return sums(memory_map(folder / f"{name}.tokens.fp16", (entry["images"], -1, entry["width"])))
