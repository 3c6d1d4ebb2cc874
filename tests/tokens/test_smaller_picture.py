"""The smaller picture: the encoder's own tokens of fewer pixels, image by image beside those of the store."""

import shutil

import pytest
import torch

from toconv import config
from toconv.errors import DataError
from toconv.tokens.batches import Batches
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.images import list_splits
from toconv.tokens.pixels import crops
from toconv.tokens.resized_encoder import resized_encoder
from toconv.tokens.smaller_picture import encode_smaller
from toconv.tokens.smaller_store import smaller_store
from toconv.tokens.store import TokenStore

CPU = torch.device("cpu")


@pytest.fixture
def store(settings, small_shards):
    return TokenStore(prepare_store(settings))


def stamps(smaller):
    return {path.name: path.stat().st_mtime_ns for path in smaller.folder.glob("*.fp16")}


@pytest.mark.parametrize("several", [True, False])
def test_tokens_are_the_encoders_of_the_same_crops_at_fewer_pixels(tiny, small_shards, several):
    settings = config.compose({**tiny, "data.crops": 3 if several else 1})
    store = TokenStore(prepare_store(settings))
    encode_smaller(settings, store, [2, 5])
    encoder = load_encoder(settings.encoder, CPU)
    for k in (2, 5):
        smaller, small = smaller_store(store, k), settings.encoder.model_copy(update={"image_size": 4 * k})
        for split, pictures in list_splits(settings.data).items():
            pixels = torch.cat([crops(p, settings.data, small) for p in pictures])
            tokens, classes = resized_encoder(encoder, 4, k)(pixels)
            assert smaller.count(split) == store.count(split)
            found = smaller.read(split, torch.arange(len(pixels)))
            torch.testing.assert_close(found, tokens.half(), rtol=1e-2, atol=2e-3)
            torch.testing.assert_close(smaller.class_tokens(split), classes, rtol=1e-2, atol=2e-3)


def test_they_are_standardised_as_the_tokens_of_the_whole_pictures_are(settings, store):
    encode_smaller(settings, store, [2])
    smaller = smaller_store(store, 2)
    x = torch.cat(list(Batches(smaller, "val", 4, CPU)))
    raw = smaller.read("val", torch.arange(smaller.count("val"))).float()
    torch.testing.assert_close(x, (raw - store.mean_C) / store.std_C, rtol=1e-4, atol=1e-4)


def test_a_second_call_encodes_nothing_and_a_damaged_shard_alone_is_encoded_again(settings, store):
    assert smaller_store(store, 2) is None
    encode_smaller(settings, store, [2])
    smaller = smaller_store(store, 2)
    before = stamps(smaller)
    encode_smaller(settings, store, [2])
    assert stamps(smaller) == before
    victim = sorted(smaller.folder.glob("train-*.tokens.fp16"))[1]
    content = victim.read_bytes()
    victim.write_bytes(content[:-2])
    assert smaller_store(store, 2) is None
    encode_smaller(settings, store, [2, 3])
    assert victim.read_bytes() == content and smaller_store(store, 3)
    changed = {name for name, stamp in stamps(smaller).items() if stamp != before[name]}
    assert changed == {victim.name, victim.name.replace("tokens", "class")}


def test_pictures_that_are_gone_or_others_are_named_and_what_is_there_stays_usable(tiny, tmp_path, photographs):
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    settings = config.compose({**tiny, "data.root": str(folder)})
    store = TokenStore(prepare_store(settings))
    encode_smaller(settings, store, [2])
    (folder / "03.jpg").unlink()
    encode_smaller(settings, store, [2])
    with pytest.raises(DataError, match="the pictures of .* are not there any more"):
        encode_smaller(settings, store, [3])
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="no such folder"):
        encode_smaller(settings, store, [3])
    assert smaller_store(store, 2) and smaller_store(store, 3) is None
