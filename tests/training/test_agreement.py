"""The third loss against the encoder's own remaining blocks, run on each image by itself."""

import pytest
import torch

from toconv import config, grid
from toconv.tokens.batches import Batches
from toconv.tokens.encoders import EncoderTail, load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.agreement import AgreementLoss
from toconv.training.loop import Training

CPU = torch.device("cpu")
K = 4


def composed(tiny, **loss):
    return config.compose({**tiny, "model.compressor.output_grid_size": K, **{f"loss.{k}": v for k, v in loss.items()}})


@pytest.fixture
def images(tiny):
    settings = config.compose(tiny)
    return Batches(TokenStore(prepare_store(settings)), "train", 4, CPU)


def cosine(a, b):
    return float((a @ b) / (a.norm() * b.norm()))


@pytest.mark.parametrize("layer", [-3, -2])
@pytest.mark.parametrize("of", ["embedding", "cells", "both"])
def test_the_loss_is_the_distance_of_what_the_remaining_blocks_make_of_both(tiny, of, layer):
    settings = config.compose({**tiny, "encoder.layer": layer}).encoder
    store = TokenStore(prepare_store(config.compose({**tiny, "encoder.layer": layer})))
    images = Batches(store, "train", 4, CPU)
    chosen, z = torch.tensor([1, 3]), torch.randn(2, K * K, settings.width, generator=torch.Generator().manual_seed(0))
    tail, apart = EncoderTail(load_encoder(settings, CPU)), []
    for row, i in enumerate(chosen.tolist()):
        class_token = store.class_tokens("train")[i : i + 1]
        ours = tail.last_layer(z[row : row + 1] * store.std_C + store.mean_C, class_token)
        whole = tail.last_layer(store.read("train", torch.tensor([i])).float(), class_token)
        by_embedding = 1 - cosine(ours[0][0], whole[0][0])
        pooled = grid.pool(whole[1], K)[0]
        by_cells = 1 - sum(cosine(a, b) for a, b in zip(ours[1][0], pooled, strict=True)) / K**2
        apart.append({"embedding": by_embedding, "cells": by_cells, "both": (by_embedding + by_cells) / 2}[of])
    found = AgreementLoss(images, settings, [K], of)(z, chosen)
    torch.testing.assert_close(found.item(), sum(apart) / 2, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("of", ["embedding", "cells", "both"])
def test_a_step_against_the_gradient_lowers_it(tiny, images, of):
    loss, chosen = AgreementLoss(images, composed(tiny).encoder, [K], of), torch.arange(4)
    z = grid.pool(next(iter(images)), K).requires_grad_()
    before = loss(z, chosen)
    (by_z,) = torch.autograd.grad(before, z)
    assert (by_z.flatten(1).norm(dim=1) > 0).all()
    assert loss(z - 1e-2 * by_z / by_z.norm(), chosen) < before


def test_a_training_for_agreement_ends_with_more_of_it(tiny):
    store = TokenStore(prepare_store(composed(tiny)))
    found = {}
    for weight in (0.0, 10.0):
        settings = composed(tiny, wgan_weight=0.0, agreement_weight=weight, agreement_of="embedding")
        training = Training(settings, store, CPU)
        diagnostics = list(training.epochs())[-1].metrics
        assert (diagnostics["L_agreement"] > 0) == (weight > 0)
        found[weight] = AgreementLoss(training.train, settings.encoder, [K], "embedding")(
            training.compressor(torch.cat(list(training.train))), torch.arange(training.train.images)
        )
    assert found[10.0] < found[0.0]


def test_without_weight_the_encoder_is_not_asked(tiny):
    assert Training(composed(tiny), TokenStore(prepare_store(composed(tiny))), CPU).agreement is None
