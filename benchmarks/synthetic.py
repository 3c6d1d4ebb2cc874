"""Token stores of random numbers, for what must be measured at sizes that no package's photographs have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from toconv.models.linear_code import LinearCode
from toconv.tokens.codes import FITTED_BY
from toconv.tokens.derived import derived
from toconv.tokens.manifest import SHARD_CROPS
from toconv.tokens.store import TokenStore


def synthetic_store(folder: Path, images: int, channels: int, grid_size: int = 24, val: int = 16) -> TokenStore:
    """A complete store of normal tokens: `images` for training, `val` for validation and for test."""
    folder.mkdir(parents=True)
    shards = {}
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(SHARD_CROPS, grid_size**2, channels, generator=generator).half()
    for split, total in (("train", images), ("val", val), ("test", val)):
        for number, start in enumerate(range(0, total, SHARD_CROPS)):
            count, name = min(SHARD_CROPS, total - start), f"{split}-{number:05d}"
            (folder / f"{name}.tokens.fp16").write_bytes(noise[:count].numpy().tobytes())
            (folder / f"{name}.class.fp16").write_bytes(noise[:count, 0].contiguous().numpy().tobytes())
            shards[name] = {"split": split, "images": count, "width": channels, "sha256": {}}
    write_manifest(folder, grid_size, channels, shards)
    return TokenStore(folder)


def write_manifest(folder: Path, grid_size: int, channels: int, shards: dict[str, Any]) -> None:
    """Of a complete store; `shards`: {name: its entry}."""
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "fingerprint": folder.name,
                "parts": {},
                "encoder": "synthetic",
                "grid_size": grid_size,
                "complete": True,
                "mean": [0.0] * channels,
                "std": [1.0] * channels,
                "shards": shards,
            }
        )
    )


def random_codes(store: TokenStore, k: int) -> None:
    """Put linear codes of random numbers where `toconv.tokens.codes` looks for fitted ones: they cost the same
    products, and fitting takes minutes. Rows of length 1/s are an orthonormal code's, s² being a block's places."""

    def state() -> dict[str, Any]:
        code = LinearCode(store.width, store.grid_size, k)
        generator = torch.Generator().manual_seed(0)
        weight_CD = torch.randn(code.weight_CD.shape, generator=generator)
        code.weight_CD.copy_(weight_CD / weight_CD.shape[1] ** 0.5 / code.s)
        return {"pca": code.state_dict(), "linear": code.state_dict(), "shrinkage": [0.0, 0.0]}

    derived(store, f"codes-k{k}", FITTED_BY, state)
