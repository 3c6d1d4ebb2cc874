"""What every family of compressors holds to: its start, its gradients, its cost beside that of conv."""

import pytest
import torch

from tests.models.branches import C, G, asked, opened, tokens
from tests.models.images import Images
from toconv import grid
from toconv.errors import RequestError
from toconv.models.cost import forward_flops, parameters
from toconv.models.families import build_compressor, build_networks, linear_codes_of, match, sized
from toconv.models.linear_fit import fit_linear_codes
from toconv.settings import COMPRESSORS, CompressorSettings, DecoderSettings

DECODER = DecoderSettings(kind="conv", width=8, blocks=1, heads=2)


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("k", range(1, G))
def test_every_family_starts_exactly_at_average_pooling_at_every_k(kind, k):
    assert torch.equal(build_compressor(asked(kind, k), C, G)(tokens()), grid.pool(tokens(), k))


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("k", [4, 5])
def test_every_family_and_its_decoder_start_exactly_at_the_linear_code(kind, k):
    images = Images(30, G, C)
    code = fit_linear_codes(images, images.folds(2), G, k).linear
    compressor, decoder = build_networks(asked(kind, k, init="linear"), DECODER, C, G)
    linear_codes_of(compressor)[k].load_state_dict(code.state_dict())
    z = compressor(images.x)
    assert torch.equal(z, code.compress(images.x))
    torch.testing.assert_close(decoder(z), code.decompress(z))


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_gradients_reach_every_parameter_once_a_step_has_opened_the_branch(kind, k):
    torch.manual_seed(0)
    made, goal = build_compressor(asked(kind, k), C, G), torch.randn(2, k * k, C)
    optimizer = torch.optim.AdamW(made.parameters(), 1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (made(tokens()) - goal).square().sum().backward()
        optimizer.step()
    still = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 1e-6]
    assert still == []


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_branch_can_emit_any_value(kind):
    made, branch = opened(kind, 3)
    last = next(m for m in reversed([*branch.modules()]) if isinstance(m, torch.nn.Linear) and m.out_features == C)
    with torch.no_grad():
        before = made(tokens())
        last.bias += 1e3
        torch.testing.assert_close(made(tokens()), before + 1e3, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("what", ["parameters", "flops"])
@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("k", [6, 7])
def test_a_matched_branch_costs_what_convs_does_as_nearly_as_widths_allow(what, kind, k):
    ours = CompressorSettings(kind=kind, output_grid_size=k, init="linear", width=96, blocks=1, match=what)

    def cost(kind, width):
        bare = ours.model_copy(update={"kind": kind, "width": width, "init": "pool", "match": None})
        network = build_compressor(bare, 64, 24)
        return parameters(network) if what == "parameters" else forward_flops(network, 1, 576, 64, device="cpu")

    found, wanted, step = match(ours, 64, 24), cost("conv", 96), 8 if kind == "abstractor" else 4
    off = {
        width: abs(cost(kind, width) / wanted - 1) for width in (found.width - step, found.width, found.width + step)
    }
    assert min(off, key=off.get) == found.width and off[found.width] < 0.1
    assert abs(found.off_percent) == pytest.approx(100 * off[found.width], abs=0.01)
    assert sized(ours, 64, 24) == ours.model_copy(update={"width": found.width, "match": None})
    assert kind != "conv" or found == (96, 0.0)


def test_a_match_draws_no_random_number():
    def drawn(width):
        torch.manual_seed(0)
        ours = asked("merger", 6, width=width, match=None if width == found.width else "parameters")
        return list(build_compressor(ours, 64, 24).parameters())

    found = match(asked("merger", 6, width=90, match="parameters"), 64, 24)
    match.cache_clear()
    assert all(torch.equal(a, b) for a, b in zip(drawn(90), drawn(found.width), strict=True))


def test_a_match_that_no_width_meets_is_refused():
    with pytest.raises(RequestError, match=r"match=parameters: no width of kind=merger comes within 10% of the param"):
        match(asked("merger", 1, width=8, match="parameters"), 64, 24)
