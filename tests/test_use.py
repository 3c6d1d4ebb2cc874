"""Use against the encoder run by hand, and what any such metric must keep."""

import pytest
import torch

from toconv import grid
from toconv.tokens.batches import Batches
from toconv.tokens.encoder import load_encoder
from toconv.tokens.store import TokenStore, prepare_store
from toconv.use import Use

CPU = torch.device("cpu")


@pytest.fixture
def images(settings):
    return Batches(TokenStore(prepare_store(settings)), "val", 4, CPU)


def by_hand(settings, images, compress):
    """One image at a time, through open_clip's own modules."""
    visual, store, found = load_encoder(settings.encoder, CPU).visual, images.store, []
    raw, classes = store.read("val", torch.arange(images.images)).float(), store.class_tokens("val").float()
    for tokens, class_token in zip(raw, classes, strict=True):
        code = compress(((tokens - store.mean_C) / store.std_C)[None]) * store.std_C + store.mean_C
        embeddings = []
        for body in (tokens[None], code):
            with torch.inference_mode():
                x = visual.transformer.resblocks[-1](torch.cat([class_token[None, None], body], dim=1))
                embeddings.append((visual.ln_post(x)[:, 0] @ visual.proj)[0])
        a, b = embeddings
        found.append(float(a @ b / (a.norm() * b.norm())))
    return sum(found) / len(found)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_use_equals_the_encoder_run_by_hand(settings, images, k):
    def compress(x):
        return grid.pool(x, k)

    assert Use(images, settings.encoder).of(compress) == pytest.approx(by_hand(settings, images, compress), abs=1e-5)


def test_originals_rank_above_everything_and_their_order_does_not_matter(settings, images):
    use = Use(images, settings.encoder)
    assert use.of(lambda x: x) == pytest.approx(1, abs=1e-6)
    assert use.of(lambda x: x[:, torch.randperm(x.shape[1])]) == pytest.approx(1, abs=1e-5)
    for compress in (lambda x: grid.pool(x, 2), lambda x: grid.strided(x, 3), lambda x: 0 * x[:, :4]):
        assert use.of(compress) < 1 - 1e-6


def test_use_does_not_depend_on_the_batches_and_embeddings_are_computed_once(settings, images):
    first = Use(images, settings.encoder)
    (path,) = images.store.derived.glob("embeddings-val-*.pt")
    written = path.stat().st_mtime_ns
    other = Use(Batches(images.store, "val", 7, CPU), settings.encoder)
    assert path.stat().st_mtime_ns == written
    assert other.of(lambda x: grid.pool(x, 2)) == pytest.approx(first.of(lambda x: grid.pool(x, 2)), abs=1e-6)
    path.write_bytes(b"damaged")
    assert Use(images, settings.encoder).of(lambda x: x) == pytest.approx(1, abs=1e-6)
