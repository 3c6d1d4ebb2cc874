"""The token store: encoded once, whole or repaired, read as numpy would."""

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from tests.small_encoders import small_encoder
from toconv import config
from toconv.encoder_catalogue import fetched
from toconv.errors import DataError, EncoderError, StoreError
from toconv.paths import sha256
from toconv.tokens import encode_shards
from toconv.tokens.batches import Batches
from toconv.tokens.encoder_models import load_visual
from toconv.tokens.encoder_weights import unvouched
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import find_store, fingerprint_parts, prepare_store
from toconv.tokens.images import list_splits
from toconv.tokens.pixels import crops
from toconv.tokens.store import TokenStore


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.fp16")}


def test_stored_tokens_are_the_encoders_own_in_the_order_of_the_pictures(settings, small_shards):
    store = TokenStore(prepare_store(settings))
    encoder = load_encoder(settings.encoder, torch.device("cpu"))
    for split, pictures in list_splits(settings.data).items():
        pixels = torch.cat([crops(p, settings.data, settings.encoder) for p in pictures])
        expected = encoder(pixels)[0].half()
        assert store.count(split) == len(pixels)
        torch.testing.assert_close(store.read(split, torch.arange(len(pixels))), expected, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize(("name", "beside"), [("tiny_siglip_gap", 0), ("tiny_dinov2_reg4", 5)])
def test_what_stands_beside_the_tokens_is_stored_whole_or_not_at_all(tiny, tmp_path, small_shards, name, beside):
    settings = config.compose({**tiny, **small_encoder(tmp_path, name)})
    folder = prepare_store(settings)
    store, pictures = TokenStore(folder), list_splits(settings.data)["train"]
    pixels = torch.cat([crops(p, settings.data, settings.encoder) for p in pictures])
    tokens, prefix = load_encoder(settings.encoder, torch.device("cpu"))(pixels)
    found = store.class_tokens("train")
    assert found.shape == (store.count("train"), beside, store.width)
    torch.testing.assert_close(found, prefix.half().float())
    assert prepare_store(settings) == folder


def test_reading_equals_a_gather_by_numpy(settings, small_shards):
    folder = prepare_store(settings)
    store = TokenStore(folder)
    parts = [np.fromfile(path, np.float16) for path in sorted(folder.glob("train-*.tokens.fp16"))]
    everything = np.concatenate(parts).reshape(-1, 36, 32)
    order = torch.randperm(store.count("train"), generator=torch.Generator().manual_seed(0))[:7].sort().values
    assert np.array_equal(store.read("train", order).numpy(), everything[order.numpy()])


def test_a_shuffled_epoch_has_every_image_once_and_another_order_next_time(settings, small_shards):
    batches = Batches(TokenStore(prepare_store(settings)), "train", 5, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    (order, first), (_, second) = (map(torch.cat, zip(*batches.shuffled(generator), strict=True)) for _ in range(2))
    in_order = torch.cat(list(batches))
    assert torch.equal(in_order[order], first)
    keys = [sorted(map(tuple, x[:, 0].tolist())) for x in (in_order, first, second)]
    assert keys[0] == keys[1] == keys[2]
    assert not torch.equal(first, in_order) and not torch.equal(first, second)


def test_training_tokens_are_standardised_channel_by_channel(settings):
    store = TokenStore(prepare_store(settings))
    x = torch.cat(list(Batches(store, "train", 8, torch.device("cpu")))).double()
    torch.testing.assert_close(x.mean((0, 1)), torch.zeros(32, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 1), unbiased=False), torch.ones(32, dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_second_start_encodes_nothing(settings):
    splits = list_splits(settings.data)
    assert find_store(settings, splits) is None
    folder = prepare_store(settings)
    before = stamps(folder)
    assert prepare_store(settings) == folder == find_store(settings, splits)
    assert stamps(folder) == before


def test_an_interrupted_encoding_keeps_its_finished_shards(settings, small_shards, monkeypatch):
    write, written = encode_shards.write_shard, []

    def interrupted(folder, shard, *tokens):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(shard.name)
        return write(folder, shard, *tokens)

    monkeypatch.setattr(encode_shards, "write_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_store(settings)
    (folder,) = filter(Path.is_dir, settings.data.tokens_dir.iterdir())
    before = stamps(folder)
    assert len(before) == 4
    monkeypatch.setattr(encode_shards, "write_shard", write)
    prepare_store(settings)
    after = stamps(folder)
    assert {name: after[name] for name in before} == before and len(after) > len(before)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_exactly_the_damaged_shard_is_encoded_again(settings, small_shards, damage):
    folder = prepare_store(settings)
    before, victim = stamps(folder), sorted(folder.glob("train-*.tokens.fp16"))[1]
    content = victim.read_bytes()
    flipped = bytes([content[0] ^ 1]) + content[1:]
    victim.unlink() if damage == "missing" else victim.write_bytes(content[:-2] if damage == "truncated" else flipped)
    if damage != "flipped":
        with pytest.raises(StoreError, match=victim.name):
            TokenStore(folder)
    prepare_store(settings)
    assert victim.read_bytes() == content
    changed = {name for name, stamp in stamps(folder).items() if stamp != before[name]}
    assert changed == {victim.name, victim.name.replace("tokens", "class")}


def test_the_fingerprint_changes_with_whatever_decides_a_token(tiny, photographs, tmp_path):
    def name(**changes):
        return prepare_store(config.compose({**tiny, **{k.replace("__", "."): v for k, v in changes.items()}})).name

    first = name()
    others = [
        name(encoder__layer=-1),
        name(data__crops=2),
        name(data__seed=1),
        name(encoder__dtype="bf16"),
        name(data__val_fraction=0.4),
    ]
    assert len({first, *others}) == 6
    assert name(hardware__threads=2, training__epochs=9, data__workers=1) == first
    copied = tmp_path / "copied"
    copied.mkdir()
    for path in photographs.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    assert name(data__root=str(copied)) == first
    (copied / "00.jpg").write_bytes((copied / "03.jpg").read_bytes())
    assert name(data__root=str(copied)) != first


@pytest.mark.parametrize(("content", "message"), [(b"", "empty"), (b"no picture at all", "not a picture")])
def test_a_picture_that_cannot_be_read_is_named(tiny, photographs, tmp_path, content, message):
    for path in photographs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=f"bad.png.*{message}"):
        prepare_store(config.compose({**tiny, "data.root": str(tmp_path), "data.tokens_dir": str(tmp_path / "t")}))


def with_bad_pictures(photographs, folder):
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for number in range(5):
        (folder / f"bad{number}.png").write_bytes(b"no picture %d" % number)


def test_all_pictures_that_cannot_be_read_are_named_in_one_message(tiny, photographs, tmp_path, small_shards):
    (tmp_path / "p").mkdir()
    with_bad_pictures(photographs, tmp_path / "p")
    with pytest.raises(DataError, match="data.unreadable=skip goes on without$") as caught:
        prepare_store(config.compose({**tiny, "data.root": str(tmp_path / "p")}))
    assert len(caught.value.mistakes) == 5
    assert all(any(f"bad{number}.png: not a picture" in line for line in caught.value.mistakes) for number in range(5))


def test_skipped_pictures_are_said_and_the_tokens_are_those_of_the_others(tiny, photographs, tmp_path, capsys):
    (tmp_path / "p").mkdir()
    with_bad_pictures(photographs, tmp_path / "p")
    overrides = {**tiny, "data.root": str(tmp_path / "p"), "data.unreadable": "skip", "data.seed": 1}
    settings = config.compose(overrides)
    folder = prepare_store(settings)
    assert capsys.readouterr().out.count("skipped: ") == 5
    store, splits = TokenStore(folder), list_splits(settings.data)
    assert {split: store.count(split) // 3 for split in splits} == {split: len(p) for split, p in splits.items()}
    assert sum(map(len, splits.values())) == 12
    before = stamps(folder)
    assert prepare_store(settings) == folder == find_store(settings, splits) and stamps(folder) == before


def test_settings_that_change_no_pixel_change_no_fingerprint(settings, tiny):
    folder = prepare_store(settings)
    for changes in ({"data.unreadable": "skip"}, {"data.max_pixels": 120 * 90}):
        changed = config.compose({**tiny, **changes})
        assert find_store(changed, list_splits(changed.data)) == folder


def test_a_damaged_manifest_is_named(settings):
    folder = prepare_store(settings)
    (folder / "manifest.json").write_text(json.dumps({"complete": True})[:-3])
    with pytest.raises(StoreError, match="manifest.json"):
        TokenStore(folder)


def test_of_a_damaged_manifest_the_field_and_its_rule_are_named_and_nothing_else(settings):
    folder = prepare_store(settings)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][shard := next(iter(manifest["shards"]))]["images"] = "many"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    wrong = f"shards.{shard}.images: Input should be a valid integer, unable to parse string as an integer"
    with pytest.raises(StoreError, match=rf"manifest.json: damaged \({wrong}\); remove the folder to encode anew"):
        TokenStore(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"shards": {}}))
    with pytest.raises(StoreError, match=r"manifest.json: damaged \(complete, but not whole\); remove"):
        TokenStore(folder)


def test_weights_whose_checksum_is_another_are_refused(settings):
    digest = sha256(Path(settings.encoder.weights))
    for given, taken in ((digest.upper(), True), ("0" * 64, False)):
        asked = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"sha256": given})})
        with nullcontext() if taken else pytest.raises(EncoderError, match="encoder.sha256=0+: .* has sha256:"):
            fingerprint_parts(asked, {"train": [], "val": [], "test": []})


@pytest.mark.parametrize(
    ("encoder", "repository", "file"),
    [
        ({"encoder": "clip_vit_l_14_336"}, "timm/vit_large_patch14_clip_336.openai", "open_clip_model.safetensors"),
        (
            {
                "encoder": "timm",
                "encoder.architecture": "vit_small_patch14_dinov2",
                "encoder.weights": "lvd142m",
                "encoder.layer": -2,
            },
            "timm/vit_small_patch14_dinov2.lvd142m",
            "model.safetensors",
        ),
    ],
)
def test_weights_of_a_hub_are_held_against_a_checksum_or_said_to_be_unknown(
    tmp_path, monkeypatch, encoder, repository, file
):
    commit = "0" * 40
    cache = tmp_path / f"models--{repository.replace('/', '--')}"  # as huggingface_hub lays it out
    for path, content in ((cache / "refs" / "main", commit), (cache / "snapshots" / commit / file, "weights")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    digest = hashlib.sha256(b"weights").hexdigest()
    none = {"train": [], "val": [], "test": []}
    given = config.compose({**encoder, "encoder.sha256": digest})
    assert fingerprint_parts(given, none) == fingerprint_parts(config.compose(encoder), none)
    assert not unvouched(given.encoder) and "whatever the hub sends" in unvouched(config.compose(encoder).encoder)
    with pytest.raises(EncoderError, match=f"encoder.sha256=1+: .* has sha256:{digest}"):
        fingerprint_parts(config.compose({**encoder, "encoder.sha256": "1" * 64}), none)
    (cache / "refs" / "main").unlink()
    of_commit = config.compose({**encoder, "encoder.sha256": digest, "encoder.revision": commit})
    assert fingerprint_parts(of_commit, none)["weights"].endswith(f":{given.encoder.weights}@{commit}")
    assert f"are what the hub has at {commit}" in unvouched(of_commit.encoder.model_copy(update={"sha256": None}))
    other = of_commit.encoder.model_copy(update={"revision": "1" * 40})
    for encoder in (given.encoder, other):
        with pytest.raises(EncoderError, match=f"encoder.weights={given.encoder.weights}: .* were not fetched"):
            fingerprint_parts(given.model_copy(update={"encoder": encoder}), none)


def test_weights_of_a_commit_are_the_ones_that_are_loaded(tmp_path, monkeypatch):
    commit, name = "2" * 40, "vit_tiny_patch16_224"
    found = timm.create_model(name, pretrained=False, num_classes=10)
    folder = tmp_path / f"models--timm--{name}.augreg_in21k" / "snapshots" / commit
    folder.mkdir(parents=True)
    safetensors.torch.save_file(found.state_dict(), folder / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    asked = {"encoder": "timm", "encoder.architecture": name, "encoder.weights": "augreg_in21k", "encoder.layer": -2}
    visual = load_visual(config.compose({**asked, "encoder.revision": commit}).encoder)
    assert torch.equal(visual.trunk.blocks[3].attn.qkv.weight, found.blocks[3].attn.qkv.weight)


def test_a_commit_of_weights_that_lie_on_no_hub_is_refused(settings):
    encoder = settings.encoder.model_copy(update={"revision": "0" * 40})
    with pytest.raises(EncoderError, match="encoder.revision=0+: encoder.weights=.* is a file; only a tag's"):
        fingerprint_parts(settings.model_copy(update={"encoder": encoder}), {"train": [], "val": [], "test": []})
    with pytest.raises(EncoderError, match="encoder.weights=in22k_ijepa: .* lie on no hub; neither encoder.sha256 nor"):
        fetched("timm", "vit_giant_patch16_gap_224", "in22k_ijepa", "0" * 40)
