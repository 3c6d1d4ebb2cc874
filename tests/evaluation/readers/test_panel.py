"""Readers of a store of a tiny encoder: their bounds, what changes nothing, and the hard half."""

import pytest
import torch

from toconv import checkpoint, config, grid
from toconv.evaluation.final import Evaluation
from toconv.evaluation.metrics import HARD, METRICS
from toconv.evaluation.readers import references
from toconv.evaluation.readers.panel import VALUES, Readers
from toconv.tokens.encoding import prepare_store
from toconv.tokens.smaller_picture import encode_smaller
from toconv.tokens.store import TokenStore

CPU = torch.device("cpu")
READ = {name for name in VALUES if not name.startswith(("saliency", "probe"))}  # which the tiny store has not


def same(x):
    return x


@pytest.fixture
def store(settings):
    return TokenStore(prepare_store(settings))


def measured(store, settings, compress, decompress, k, batch_size=5):
    with torch.inference_mode():
        return Evaluation(store, settings.encoder, batch_size, CPU).final(compress, decompress, k, test=True)


def pooled(store, settings, **others):
    return measured(store, settings, lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), 3, **others)


def test_all_tokens_stand_at_1_and_the_mean_token_at_0_on_both_splits(store, settings):
    whole, mean = (measured(store, settings, f, same, 6) for f in (same, torch.zeros_like))
    for name in {prefix + name for prefix in ("", "test_") for name in READ} & set(whole):
        assert whole[name] == pytest.approx(1, abs=1e-4), name
        if "neighbours" not in name:  # the mean token's embedding is made of as many tokens as there are
            assert mean[name] == pytest.approx(0, abs=1e-4), name
    assert {"last_layer_read", "segmentation_read", "segmentation_restored", "neighbours_kept"} <= set(whole)


def test_every_reader_is_a_metric():
    assert set(VALUES) <= set(METRICS)


def test_neither_batches_nor_a_second_time_change_what_is_read_and_references_are_made_once(store, settings):
    first = pooled(store, settings)
    written = {path: path.stat().st_mtime_ns for path in store.derived.glob("reader*.pt")}
    assert len(written) == 3
    other = pooled(store, settings, batch_size=9)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    for name in READ & set(first):
        assert other[name] == pytest.approx(first[name], abs=1e-4)
        assert first[name] == pooled(store, settings)[name]


def test_compressed_tokens_are_read_in_full_precision_within_a_training_of_mixed_precision(store, settings):
    full = pooled(store, settings)
    with torch.autocast("cpu", torch.bfloat16):
        found = pooled(store, settings)
    for name in READ & set(full):
        assert found[name] == pytest.approx(full[name], abs=1e-4), name


def test_what_has_no_grid_is_read_by_the_encoder_and_by_heads_alone(store, settings):
    found = measured(store, settings, lambda x: x[:, :7], lambda z: grid.upsample(grid.resize(z[:, :4], 2), 6), None)
    assert {"neighbours_kept", "segmentation_restored"} <= set(found)
    assert not {"embedding_read", "last_layer_read", "segmentation_read"} & set(found)


def test_with_smaller_pictures_each_reader_is_measured_on_the_hard_half_too(store, settings):
    assert not [name for name in pooled(store, settings) if name.endswith(HARD)]
    encode_smaller(settings, store, [3])
    found = pooled(store, settings)
    assert {"last_layer_read" + HARD, "test_segmentation_restored" + HARD, "embedding_agreement" + HARD} <= set(found)
    assert found["last_layer_read" + HARD] != found["last_layer_read"]


def test_a_large_store_is_read_by_evenly_spaced_pictures_with_all_their_crops(store, monkeypatch):
    monkeypatch.setattr(references, "MOST_IMAGES", 7)
    assert store.crops == 3
    found = references.images_read(store, "train")
    assert len(found) == 6 and found.view(2, 3).diff(dim=1).unique().tolist() == [1]
    assert (found % 3 == torch.tensor([0, 1, 2] * 2)).all() and found[3] >= store.count("train") // 2 - 3


def test_with_class_folders_a_probe_is_fitted_on_the_training_pictures_and_counts_their_classes_alone(store, settings):
    assert "probe_read" not in pooled(store, settings)
    pictures = {split: store.count(split) // store.crops for split in ("train", "val", "test")}
    store.classes = {split: ["bright" if i % 2 else "dark" for i in range(n)] for split, n in pictures.items()}
    store.classes["val"][0] = "unknown"
    readers = Readers(store, settings.encoder, CPU)
    embeddings = {"val": torch.zeros(store.count("val"), readers._known.targets["val"].embedding_IE.shape[1])}
    hits_I, counted_I = readers.of(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), embeddings)["val"][
        "probe_read"
    ].sums_IX.T
    assert counted_I.tolist() == [0] * 3 + [1] * (store.count("val") - 3)
    assert (hits_I <= counted_I).all()


@pytest.mark.slow
def test_saliency_is_first_looked_at_within_a_training_of_mixed_precision(tmp_path):
    """A training without a sweep is the first to ask for the maps, and its precision is not theirs."""
    few = {f"data.{split}_pictures": n for split, n in (("train", 2), ("val", 1), ("test", 1))}
    settings = config.compose({"data.crops": 1, "data.tokens_dir": str(tmp_path), **few})
    store = TokenStore(prepare_store(settings))
    with torch.autocast("cpu", torch.bfloat16):
        found = measured(store, settings, lambda x: grid.pool(x, 6), lambda z: grid.upsample(z, 24), 6)
    maps = checkpoint.load(next(store.derived.glob("saliency-val-*.pt")))["maps"]
    assert maps.isfinite().all() and 0 < found["saliency_restored"] < 1
