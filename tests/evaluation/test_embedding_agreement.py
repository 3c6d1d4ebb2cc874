"""Embedding agreement against the encoder run by hand, and what any such metric must keep."""

import pytest
import torch
import torch.nn.functional as F

from toconv import grid
from toconv.evaluation.embedding_agreement import EmbeddingAgreement
from toconv.tokens.batches import Batches
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore

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
                x = visual.transformer.resblocks[-1](torch.cat([class_token[None], body], dim=1))
                embeddings.append((visual.ln_post(x)[:, 0] @ visual.proj)[0])
        a, b = embeddings
        found.append(float(a @ b / (a.norm() * b.norm())))
    return sum(found) / len(found)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_embedding_agreement_equals_the_encoder_run_by_hand(settings, images, k):
    def compress(x):
        return grid.pool(x, k)

    expected = by_hand(settings, images, compress)
    assert EmbeddingAgreement(images, settings.encoder).of(compress)["embedding_agreement"] == pytest.approx(
        expected, abs=1e-5
    )


def test_originals_rank_above_everything_and_their_order_does_not_matter(settings, images):
    agreement = EmbeddingAgreement(images, settings.encoder)
    assert agreement.of(lambda x: x)["embedding_agreement"] == pytest.approx(1, abs=1e-6)
    assert agreement.of(lambda x: x[:, torch.randperm(x.shape[1])])["embedding_agreement"] == pytest.approx(1, abs=1e-5)
    for compress in (lambda x: grid.pool(x, 2), lambda x: grid.strided(x, 3), lambda x: 0 * x[:, :4]):
        assert agreement.of(compress)["embedding_agreement"] < 1 - 1e-6


def test_embedding_agreement_does_not_depend_on_the_batches_and_embeddings_are_computed_once(settings, images):
    first = EmbeddingAgreement(images, settings.encoder)
    (path,) = images.store.derived.glob("embeddings-val-*.pt")
    written = path.stat().st_mtime_ns
    other = EmbeddingAgreement(Batches(images.store, "val", 7, CPU), settings.encoder)
    assert path.stat().st_mtime_ns == written
    assert other.of(lambda x: grid.pool(x, 2))["embedding_agreement"] == pytest.approx(
        first.of(lambda x: grid.pool(x, 2))["embedding_agreement"], abs=1e-6
    )
    path.write_bytes(b"damaged")
    assert EmbeddingAgreement(images, settings.encoder).of(lambda x: x)["embedding_agreement"] == pytest.approx(
        1, abs=1e-6
    )


def noise(x):
    """Far from every token, so that images change their class."""
    return 30 * torch.randn(len(x), 4, x.shape[-1], generator=torch.Generator().manual_seed(len(x)))


@pytest.mark.slow
def test_zero_shot_agreement_equals_open_clips_own_classification(with_text):
    import open_clip

    images = Batches(TokenStore(prepare_store(with_text)), "val", 4, CPU)
    with torch.autocast("cpu", torch.bfloat16):  # as within a training of mixed precision
        agreement = EmbeddingAgreement(images, with_text.encoder)
        assert agreement.of(lambda x: x)["zero_shot_agreement"] == 1
    model = open_clip.create_model("toconv_tiny_text", pretrained=with_text.encoder.weights).eval()
    with torch.inference_mode():
        rows, shares = [], []
        for name in open_clip.IMAGENET_CLASSNAMES:
            texts = open_clip.tokenize([template(name) for template in open_clip.SIMPLE_IMAGENET_TEMPLATES])
            rows.append(F.normalize(F.normalize(model.encode_text(texts), dim=-1).mean(0), dim=0))
        classes = torch.stack(rows)
        for compress in (lambda x: grid.pool(x, 1), lambda x: grid.strided(x, 2), noise):
            found = [torch.cat(list(agreement._embeddings(f))) @ classes.T for f in (compress, lambda x: x)]
            same = [a.argmax() == b.argmax() for a, b in zip(*found, strict=True)]
            shares.append(agreement.of(compress)["zero_shot_agreement"])
            assert shares[-1] == pytest.approx(sum(map(int, same)) / len(same))
    assert len(set(shares)) > 1, "the three compressors must differ for this to be a test"


def test_without_a_text_tower_of_clips_vocabulary_there_is_no_agreement(settings, images):
    assert "zero_shot_agreement" not in EmbeddingAgreement(images, settings.encoder).of(lambda x: x)
