"""What a step is said to cost, against the matrix products that one on real tokens runs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.products import Products, flops
from toconv import config
from toconv.settings import COMPRESSORS, NESTED
from toconv.sweep.plan import networks
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training import starts
from toconv.training.loop import Training
from toconv.training.step_cost import step_flops

KINDS = [
    {},
    {"training.n_critic": 3},
    {"loss.wgan_weight": 0.0},
    {"loss.balance": "gradient_norm"},
    {"loss.penalty": "r1"},
    {"training.micro_batch": 2},
    {"model.critic.head": "grid"},
    {"model.critic.head": "conditional"},
    {"model.critic.tokens_per_image": 2, "model.critic.layers": 3},
    {"model.decoder.kind": "attention"},
    {"model.compressor.init": "pool"},
    *({"model.compressor.kind": kind} for kind in COMPRESSORS if kind != NESTED),
    {"model.compressor.kind": NESTED, "model.compressor.grid_sizes": [3]},
]


@pytest.fixture
def make(tiny, shared):
    tiny["data.tokens_dir"] = str(shared / "tokens")

    def training(**changes):
        settings = config.compose({**tiny, "model.compressor.init": "linear", **changes})
        return Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))

    return training


def counted(training):
    (images_B, x_BNC), *_ = training.train.shuffled(training.shuffle)
    assert len(x_BNC) == training.settings.training.batch_size
    training.step(x_BNC, images_B)  # starts are computed
    with sdpa_kernel(SDPBackend.MATH), Products() as products:  # attention as its products
        training.step(x_BNC, images_B)
    return flops(products.found)


@pytest.mark.parametrize("changes", KINDS, ids=str)
@pytest.mark.parametrize("kept", [True, False])
def test_it_is_what_a_step_runs(make, monkeypatch, changes, kept):
    monkeypatch.setattr(starts, "MOST_BYTES", starts.MOST_BYTES if kept else 0)
    training = make(**changes)
    meta = networks(training.settings, training.k)
    told = step_flops(training.settings, meta, training.k, training.train.images)
    assert told == pytest.approx(counted(training), rel=0.01)
