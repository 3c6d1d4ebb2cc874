"""Tokens in fp16, bf16 and int8: what is written, and what is read back of it, against numpy."""

import json

import numpy as np
import pytest
import torch

from toconv import config
from toconv.errors import EncoderError, StoreError
from toconv.tokens.batches import Batches
from toconv.tokens.encoding import fingerprint_parts, prepare_store
from toconv.tokens.images import list_splits
from toconv.tokens.known_images import KnownImages
from toconv.tokens.manifest import SPLITS, read_manifest
from toconv.tokens.room import estimated_bytes
from toconv.tokens.shards import Shard, write_shard
from toconv.tokens.smaller_picture import encode_smaller
from toconv.tokens.smaller_store import SmallerPictures, smaller_store
from toconv.tokens.store import TokenStore
from toconv.tokens.stored import bytes_of_image, stored

CPU = torch.device("cpu")


def tokens(images=5, n=7, c=3):
    draw = torch.Generator().manual_seed(0)
    return (10 ** torch.randn(images, 1, c, generator=draw) * torch.randn(images, n, c, generator=draw) + 40).half()


def test_int8_is_off_by_half_a_step_of_its_channel_at_most():
    x, found = tokens(), stored(tokens(), "int8")
    of_numpy = x.numpy().astype(np.float64)
    low, high = of_numpy.min(1), of_numpy.max(1)
    step = (high - low) / 254
    np.testing.assert_allclose(found.scales_I2C.numpy(), np.stack([(low + high) / 2, step], 1), rtol=1e-6)
    assert found.values_INC.dtype == torch.int8 and int(found.values_INC.abs().max()) == 127
    assert (np.abs(found.raw().numpy() - of_numpy) <= step[:, None] * 0.5001 + 1e-5).all()


def test_a_channel_that_does_not_vary_comes_back_as_it_is():
    x = tokens()
    x[:, :, 1] = 3.25
    assert torch.equal(stored(x, "int8").raw()[:, :, 1], x[:, :, 1].float())


@pytest.mark.parametrize(
    ("dtype", "value"), [("fp16", 1e5), ("int8", 1e5), ("int8", float("nan")), ("bf16", float("inf"))]
)
def test_a_token_that_is_not_finite_is_refused_whatever_it_is_stored_in(tmp_path, dtype, value):
    x = torch.zeros(2, 4, 3)
    x[1, 2, 1] = value
    kept = stored(x.bfloat16() if dtype == "bf16" else x.half(), dtype)
    with pytest.raises(EncoderError, match=f"train-00000: a token is not finite in {dtype}"):
        write_shard(tmp_path, Shard("train-00000", "train", []), kept, torch.zeros(2, 1, 3).half())
    assert not list(tmp_path.iterdir())


@pytest.fixture
def of(tiny, small_shards):
    """The settings of a store whose tokens are kept in a dtype."""
    return lambda dtype: config.compose({**tiny, "store.dtype": dtype})


@pytest.mark.parametrize(("dtype", "most"), [("bf16", 5e-6), ("int8", 1e-4)])
def test_what_is_read_is_the_same_tokens_standardised_alike(of, dtype, most):
    """`most`: of a channel's variance, the part that storing may lose."""
    whole, kept = (TokenStore(prepare_store(of(name))) for name in ("fp16", dtype))
    torch.testing.assert_close(kept.mean_C, whole.mean_C, rtol=1e-4, atol=1e-4)
    for split in SPLITS:
        order = torch.randperm(kept.count(split), generator=torch.Generator().manual_seed(0))[:7].sort().values
        x, y = (torch.cat(list(Batches(store, split, 4, CPU).at(order))) for store in (whole, kept))
        assert 0 < (x - y).square().mean() < most
        raw = kept.read(split, order).float()
        torch.testing.assert_close(y, (raw - kept.mean_C) / kept.std_C, rtol=1e-5, atol=1e-5)
        batches = Batches(kept, split, 4, CPU).raw(order.split(4))
        torch.testing.assert_close(torch.cat([batch.float() + 0 for batch in batches]), raw)
        torch.testing.assert_close(kept.class_tokens(split), whole.class_tokens(split), rtol=0, atol=0)


def test_the_images_of_an_int8_store_are_known_by_their_tokens(of):
    store = TokenStore(prepare_store(of("int8")))
    x = torch.cat(list(Batches(store, "val", 4, CPU)))
    assert (KnownImages(store, CPU)(x) - store.count("train")).tolist() == list(range(len(x)))


def test_smaller_pictures_tokens_are_fp16_beside_an_int8_store(of):
    settings = of("int8")
    store = TokenStore(prepare_store(settings))
    encode_smaller(settings, store, [3])
    smaller = smaller_store(store, 3)
    assert smaller.dtype == "fp16"
    x = torch.cat(list(Batches(store, "val", 4, CPU)))
    expected = (smaller.read("val", torch.arange(len(x))).float() - store.mean_C) / store.std_C
    torch.testing.assert_close(SmallerPictures(store, smaller, CPU)(x), expected)


def test_each_dtype_has_a_store_of_its_own_and_that_of_fp16_keeps_its_name(of):
    named = {dtype: fingerprint_parts(of(dtype), list_splits(of(dtype).data)) for dtype in ("fp16", "bf16", "int8")}
    assert "stored" not in named["fp16"]
    assert [named[dtype] for dtype in ("bf16", "int8")] == [{**named["fp16"], "stored": d} for d in ("bf16", "int8")]


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "int8"])
def test_the_disk_that_is_asked_for_is_what_tokens_take(of, dtype):
    folder = prepare_store(of(dtype))
    store = TokenStore(folder)
    images = sum(map(store.count, SPLITS))
    files = [path for path in folder.iterdir() if path.name.split(".")[1] in ("tokens", "scales", "class")]
    assert sum(path.stat().st_size for path in files) == estimated_bytes(of(dtype), images)
    assert bytes_of_image(36, 32, dtype) < 0.75 * bytes_of_image(36, 32) or dtype != "int8"


def test_a_damaged_file_of_scales_has_its_shard_encoded_again(of):
    folder = prepare_store(of("int8"))
    victim = sorted(folder.glob("train-*.scales.fp32"))[1]
    content = victim.read_bytes()
    victim.write_bytes(content[:-4])
    with pytest.raises(StoreError, match=victim.name):
        TokenStore(folder)
    assert prepare_store(of("int8")) == folder and victim.read_bytes() == content


def test_a_store_of_a_dtype_that_is_not_known_is_refused(of):
    folder = prepare_store(of("int8"))
    manifest = read_manifest(folder)
    for other in ("int4", ["int8"]):
        manifest["parts"]["stored"] = other
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(StoreError, match="its tokens are stored as .*int.*, known are fp16, bf16, int8"):
            TokenStore(folder)
