"""A step on a GPU that is not there: nothing lies elsewhere, and the host neither waits for it nor reads from it."""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError

from tests.fake_gpu import GPU, Crossings, on_fake_gpu
from toconv import config
from toconv.settings import COMPRESSORS, NESTED
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

VARIANTS = [  # every family, head, penalty and start once
    {"model.compressor.kind": "conv", "loss.balance": "gradient_norm"},
    {"model.compressor.kind": "abstractor", "model.critic.head": "grid", "loss.penalty": "r1"},
    {"model.compressor.kind": "token_packer", "model.critic.head": "conditional", "loss.penalty": "one_sided"},
    {"model.compressor.kind": "resampler", "model.critic.pairs": "independent", "model.compressor.init": "pca"},
    {"model.compressor.kind": "ldp", "model.decoder.kind": "attention", "loss.penalty": "r2"},
    {"model.compressor.kind": "merger", "loss.wgan_weight": 0.0, "model.compressor.init": "pool"},
    {"model.compressor.kind": NESTED, "model.compressor.grid_sizes": [2, 3], "loss.agreement_weight": 0.5},
    {"model.compressor.output_grid_size": 4, "model.compressor.init": "pool", "training.micro_batch": 3},
]


@pytest.fixture
def make(tiny, shared):
    tiny["data.tokens_dir"] = str(shared / "tokens")

    def training(**changes):
        settings = config.compose({**tiny, **changes})
        return Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))

    return training


def step(training, images=8):
    x_BNC = torch.randn(images, training.store.grid_size**2, training.store.width, device=GPU)
    training._drawn_size = lambda: training.k  # drawn on the host, where fake tensors have no numbers either
    with Crossings() as seen:
        found = training.step(x_BNC, torch.arange(images))
    assert found.device == GPU and seen.operators > 100
    return seen


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_step_stays_on_its_gpu_and_has_the_host_wait_for_nothing(make, monkeypatch, changes):
    with on_fake_gpu(make(**changes), monkeypatch) as training:
        seen = step(training)
        held = [*training.optimizer.state.values(), *training.critic_optimizer.state.values()]
        assert {value.device for state in held for value in state.values()} == {GPU}
    assert not seen.waits
    # which images they are, for where they start; what agreement compares with lies with its images: class tokens,
    # embeddings and cells of the batch
    expected = (3 if "loss.agreement_weight" in changes else 0) + (changes.get("model.compressor.init") != "pool")
    assert seen.sent.total() == expected, seen.sent


def test_all_families_are_tried():
    assert {changes.get("model.compressor.kind", "conv") for changes in VARIANTS} == {*COMPRESSORS}


@pytest.mark.parametrize(
    ("planted", "error"),
    [
        (lambda y: y * y.sum().item(), DataDependentOutputException),
        (lambda y: y if y.sum() > 0 else -y, DataDependentOutputException),
        (lambda y: y + torch.ones(y.shape[-1]), FakeTensorDeviceMismatchError),
        (lambda y: y.cpu().to(GPU), AssertionError),
    ],
    ids=["item", "if", "elsewhere", "cpu"],
)
def test_a_wait_that_is_planted_in_a_network_is_seen(make, monkeypatch, planted, error):
    with on_fake_gpu(make(), monkeypatch) as training:
        training.decoder.register_forward_hook(lambda _, __, y_BNC: planted(y_BNC))
        with pytest.raises(error):
            assert not step(training).waits
