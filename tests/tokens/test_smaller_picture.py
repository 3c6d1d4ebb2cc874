"""The smaller picture: the encoder's own tokens of fewer pixels, image by image beside those of the store."""

import shutil
import threading

import pytest
import torch

from toconv import config
from toconv.errors import DataError
from toconv.tokens import smaller_picture
from toconv.tokens.batches import Batches
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.images import list_splits
from toconv.tokens.pixels import crops
from toconv.tokens.resized_encoder import resized_encoder
from toconv.tokens.shards import Claims, plan_shards, write_shard
from toconv.tokens.smaller_picture import Lacking, encode_smaller, encode_smaller_share
from toconv.tokens.smaller_store import smaller_folder, smaller_store
from toconv.tokens.store import TokenStore
from toconv.tokens.stored import Stored

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


class InThread:
    """A helper that encodes in this process, or fails."""

    def __init__(self, settings, lacking, fails=False):
        self._thread = threading.Thread(target=lambda: fails or encode_smaller_share(settings, lacking))
        self._thread.start()
        self._fails = fails

    def ended(self):
        return not self._thread.is_alive()

    def failure(self):
        return "its machine is gone" if self._fails else None


def test_several_devices_write_each_shard_once_and_what_one_leaves_is_encoded_here(
    settings, store, monkeypatch, capsys
):
    encode_smaller(settings, store, [2, 5])
    alone = [{path.name: path.read_bytes() for path in smaller_store(store, k).folder.glob("*.fp16")} for k in (2, 5)]
    for k in (2, 5):
        shutil.rmtree(smaller_store(store, k).folder)
    written = []

    def counted(folder, shard, *of):
        written.append((folder.name, shard.name, threading.current_thread() is threading.main_thread()))
        return write_shard(folder, shard, *of)

    monkeypatch.setattr(smaller_picture, "write_shard", counted)
    encode_smaller(settings, store, [2, 5], lambda lacking: [InThread(settings, lacking) for _ in range(2)])
    here = [{path.name: path.read_bytes() for path in smaller_store(store, k).folder.glob("*.fp16")} for k in (2, 5)]
    assert here == alone and len(written) == len({entry[:2] for entry in written})
    assert not any(by_main for *_, by_main in written), "helpers were at work on all"
    shutil.rmtree(smaller_store(store, 5).folder)
    written.clear()
    encode_smaller(settings, store, [2, 5], lambda lacking: [InThread(settings, lacking, fails=True)])
    assert smaller_store(store, 5) and {folder for folder, *_ in written} == {smaller_folder(store.folder, 5).name}
    assert "a device stopped encoding (its machine is gone)" in " ".join(capsys.readouterr().out.split())
    assert not [*store.derived.glob("smaller-*/t*.lock")]


def test_a_shard_of_which_one_size_was_written_before_its_process_died_is_encoded_again(settings, store):
    """A shard counts as finished by the size that is written last."""
    encode_smaller(settings, store, [2, 5])
    shard = plan_shards(list_splits(settings.data), settings.data)[0]
    shutil.rmtree(smaller_store(store, 5).folder)
    claims = {k: Claims(smaller_folder(store.folder, k), [shard]) for k in (2, 5)}
    lacking = Lacking(claims, [(shard, [2, 5])])
    write_shard(claims[2].folder, shard, Stored(torch.zeros(3, 4, 8).half()), torch.zeros(3, 1, 8).half())
    assert claims[2].is_finished(shard) and not lacking.of([2, 5]).is_finished(shard)
    encode_smaller_share(settings, lacking)
    assert lacking.of([2, 5]).is_finished(shard)
    assert smaller_store(store, 2).read(shard.split, torch.arange(1)).any()


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
