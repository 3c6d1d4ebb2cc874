"""Compressor, decoders and critic: shapes at every k, where they start, what a token sees."""

import pytest
import torch

from toconv import grid
from toconv.models.critic import build_critic
from toconv.models.families import build_compressor, build_decoder
from toconv.settings import CompressorSettings, CriticSettings, DecoderSettings

C = 8


def compressor(k):
    torch.manual_seed(0)
    return build_compressor(CompressorSettings(kind="conv", output_grid_size=k, init="pool", width=8, blocks=1), C, 24)


def decoder(kind, k):
    torch.manual_seed(0)
    return build_decoder(DecoderSettings(kind=kind, width=8, blocks=1, heads=2), C, 24, k, "pool")


def tokens(n=576):
    return torch.randn(2, n, C, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("k", range(1, 24))
def test_the_compressor_starts_exactly_at_average_pooling(k):
    x = tokens()
    assert torch.equal(compressor(k)(x), grid.pool(x, k))


@pytest.mark.parametrize("kind", ["conv", "attention"])
@pytest.mark.parametrize("k", range(1, 24))
def test_a_decoder_starts_exactly_at_bilinear_upsampling(kind, k):
    z = tokens(k * k)
    assert torch.equal(decoder(kind, k)(z), grid.upsample(z, 24))


@pytest.mark.parametrize(
    ("kind", "k"),
    [  # attention to a single token (k = 1) asks nothing of the queries
        ("conv", 1),
        *((kind, k) for kind in ("conv", "attention") for k in (2, 5, 6, 16, 23)),
    ],
)
def test_every_parameter_of_compressor_and_decoder_is_trained_once_the_branch_is_open(kind, k):
    networks = torch.nn.Sequential(compressor(k), decoder(kind, k))
    for network in networks:
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    networks(tokens()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in networks.parameters())


def test_a_compressed_token_sees_its_cell_and_its_neighbours_only():
    network = compressor(6)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = tokens().requires_grad_(True)
    network(x)[0, 0].sum().backward()
    seen = x.grad[0].abs().sum(-1).view(24, 24) > 0
    assert seen[:8, :8].all() and not seen[8:].any() and not seen[:, 8:].any()


def critic_of(head):
    torch.manual_seed(0)
    return build_critic(C, CriticSettings(head=head, pairs="matched", width=16, layers=2, tokens_per_image=16))


def test_a_grid_critic_scores_each_grid_by_itself_and_sees_neighbours():
    critic, x = critic_of("grid"), tokens(9).requires_grad_(True)
    scores = critic(x)
    assert scores.shape == (2,)
    scores[1].backward()
    assert (x.grad.abs().sum(-1) > 0).tolist() == [[False] * 9, [True] * 9]
    (second,) = torch.autograd.grad(scores.new_zeros(()) + critic(x)[0], x, create_graph=True)
    second.square().sum().backward()  # double backward reaches the convolutions
    assert critic.convs[0].weight.grad.abs().sum() > 0


def test_a_conditional_critic_sees_the_condition():
    critic, x = critic_of("conditional"), tokens(3)
    assert not torch.allclose(critic(x, x), critic(x, 0 * x))


def test_a_critics_score_depends_on_its_own_token_alone():
    torch.manual_seed(0)
    critic = critic_of("token")
    x = tokens(5).requires_grad_(True)
    scores = critic(x)
    assert scores.shape == (2, 5)
    scores[1, 3].backward()
    touched = x.grad.abs().sum(-1) > 0
    assert touched.nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize("kind", ["conv", "attention"])
def test_operations_are_counted_as_torchs_own_counter_counts_them(settings, kind):
    from torch.utils.flop_counter import FlopCounterMode

    from toconv.models.cost import forward_flops

    with torch.device("meta"):
        networks = [
            (build_compressor(settings.model.compressor, 32, 6), 36),
            (build_decoder(settings.model.decoder.model_copy(update={"kind": kind}), 32, 6, 3, "pool"), 9),
            (build_critic(32, settings.model.critic), 9),
        ]
    for network, tokens in networks:
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(4, tokens, 32, device="meta"))
        assert forward_flops(network, 4, tokens, 32) == counter.get_total_flops() > 0


def test_products_of_matrices_are_counted_as_torchs_own_counter_counts_them():
    from torch.utils.flop_counter import FlopCounterMode

    from toconv.models.cost import flops_of
    from toconv.models.frequencies import low_frequencies
    from toconv.models.token_sets import keep_diverse, merge_similar

    x = torch.randn(1, 36, 8, generator=torch.Generator().manual_seed(0))
    for code in (low_frequencies, merge_similar, keep_diverse):
        with FlopCounterMode(display=False) as counter:
            code(x, 4)
        assert flops_of(lambda x, code=code: code(x, 4), x) == counter.get_total_flops() > 0


@pytest.mark.parametrize("init", ["pool", "pca", "linear"])
def test_a_compressors_cost_is_its_operations_for_one_image_and_all_numbers_that_it_holds(settings, init):
    from torch.utils.flop_counter import FlopCounterMode

    from toconv.models.cost import compressor_cost, held_numbers

    compressor_settings = settings.model.compressor.model_copy(update={"init": init, "output_grid_size": 3})
    with torch.device("meta"):
        compressor = build_compressor(compressor_settings, 32, 6)
    with FlopCounterMode(display=False) as counter:
        build_compressor(compressor_settings, 32, 6)(torch.zeros(1, 36, 32))
    assert compressor_cost(compressor, held_numbers(compressor), 36, 32) == {
        "compressor_flops": counter.get_total_flops(),
        "compressor_parameters": sum(x.numel() for x in compressor.state_dict().values()),
    }
