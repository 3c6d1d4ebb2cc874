"""The smaller picture measured against the encoder's own passes over both pictures."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.images import fvu
from toconv import grid
from toconv.evaluation.baselines import measure_smaller
from toconv.evaluation.final import Evaluation
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


def test_the_smaller_pictures_agreement_is_that_of_the_encoders_embeddings_of_both_pictures(settings):
    store, k = TokenStore(prepare_store(settings)), 3
    evaluation = Evaluation(store, settings.encoder, 4, CPU)
    assert measure_smaller(evaluation, k) == {}
    encode_smaller(settings, store, [k])
    metrics = measure_smaller(evaluation, k)["smaller_picture"]["metrics"]
    encoder = load_encoder(settings.encoder, CPU)
    small = settings.encoder.model_copy(update={"image_size": 4 * k})
    for split, prefix in (("val", ""), ("test", "test_")):
        whole, fewer = (
            torch.cat([crops(p, settings.data, s) for p in list_splits(settings.data)[split]])
            for s in (settings.encoder, small)
        )
        with torch.inference_mode():
            cosine = F.cosine_similarity(encoder.visual(whole), resized_encoder(encoder, 4, k).visual(fewer))
        assert metrics[f"{prefix}embedding_agreement"] == pytest.approx(cosine.mean().item(), abs=1e-3)
        x, z = (torch.cat(list(Batches(of, split, 4, CPU))) for of in (store, smaller_store(store, k)))
        assert metrics[f"{prefix}distortion"] == pytest.approx(fvu(x, grid.upsample(z, 6)), rel=1e-4)
    assert metrics["encoder_share"] == 0.25 and metrics["compressor_parameters"] == 0
