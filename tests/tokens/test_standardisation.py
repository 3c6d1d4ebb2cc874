"""Mean and standard deviation over training tokens, against numpy, with the sums beside shards and without."""

import numpy as np
import pytest
import torch

from toconv.tokens.encoding import prepare_store
from toconv.tokens.manifest import read_manifest
from toconv.tokens.shards import intact
from toconv.tokens.standardisation import SPREAD, SUMS, mean_and_std, sums


@pytest.fixture
def folder(settings, small_shards):
    return prepare_store(settings)


@pytest.fixture
def of_training(folder):
    """Mean and standard deviation by numpy."""
    x = np.concatenate([np.fromfile(path, np.float16) for path in folder.glob("train-*.tokens.fp16")])
    x = x.reshape(-1, 32).astype(np.float64)
    return x.mean(0), x.std(0)


def test_sums_are_of_values_and_squares_in_float64():
    x = (1000 * torch.randn(5, 7, 3) + 2000).half()
    expected = np.stack([x.double().numpy().sum((0, 1)), np.square(x.double().numpy()).sum((0, 1))])
    np.testing.assert_allclose(sums(x).numpy(), expected, rtol=1e-14)


def test_a_store_has_the_mean_and_deviation_of_its_training_tokens(folder, of_training):
    manifest = read_manifest(folder)
    for found, expected in zip((manifest["mean"], manifest["std"]), of_training, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    assert {path.name.removesuffix(SUMS) for path in folder.glob(f"*{SUMS}")} == {
        name for name, entry in manifest["shards"].items() if entry["split"] == "train"
    }


def test_shards_of_earlier_versions_are_read_for_them(folder, of_training):
    manifest = read_manifest(folder)
    for path in sorted(folder.glob(f"*{SUMS}"))[:-1]:
        del manifest["shards"][path.name.removesuffix(SUMS)]["sha256"][path.name]
        path.unlink()
    for found, expected in zip(mean_and_std(folder, manifest, 36), of_training, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_damaged_sums_are_a_damaged_shard(folder):
    victim, manifest = min(folder.glob(f"*{SUMS}")), read_manifest(folder)
    victim.write_bytes(victim.read_bytes()[:-8] + bytes(8))
    damaged = [name for name, entry in manifest["shards"].items() if not intact(folder, entry)]
    assert damaged == [victim.name.removesuffix(SUMS)]


def test_a_channel_that_never_varies_has_the_least_deviation(tmp_path):
    torch.full((2, 4, 1), 3.0).half().numpy().tofile(tmp_path / "a.tokens.fp16")
    entry = {"split": "train", "images": 2, "width": 1, "sha256": {"a.tokens.fp16": ""}}
    mean, std = mean_and_std(tmp_path, {"shards": {"a": entry}}, 4)
    assert mean.item() == 3 and std.item() == pytest.approx(SPREAD)
