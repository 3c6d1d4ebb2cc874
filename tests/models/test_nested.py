"""One compressor for several k: its start at each, its formula, what its k share."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.branches import C, G, W, asked, opened, tokens
from tests.models.images import Images
from toconv import grid
from toconv.models.cost import parameters
from toconv.models.families import build_compressor, build_networks, linear_codes_of
from toconv.models.linear_fit import fit_linear_codes
from toconv.models.nested import at_size
from toconv.settings import DecoderSettings

SIZES = (2, 3, 5)
DECODERS = [DecoderSettings(kind=kind, width=8, blocks=1, heads=2) for kind in ("conv", "attention")]


def networks(init, decoder=DECODERS[0]):
    return build_networks(asked("nested", 3, init=init, grid_sizes=SIZES), decoder, C, G)


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.kind)
def test_it_starts_exactly_at_average_pooling_and_up_sampling_at_every_k(decoder):
    compressor, back = networks("pool", decoder)
    for k in SIZES:
        z = compressor(tokens(), k)
        assert torch.equal(z, grid.pool(tokens(), k))
        torch.testing.assert_close(back(z), grid.upsample(z, G))


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.kind)
@pytest.mark.parametrize("init", ["pca", "linear"])
def test_it_starts_exactly_at_the_linear_code_of_every_k(init, decoder):
    images, (compressor, back) = Images(30, G, C), networks(init, decoder)
    for k, code in linear_codes_of(compressor).items():
        fitted = getattr(fit_linear_codes(images, images.folds(2), G, k), init)
        code.load_state_dict(fitted.state_dict())
        z = compressor(images.x, k)
        assert torch.equal(z, fitted.compress(images.x))
        torch.testing.assert_close(back(z), fitted.decompress(z))
    assert tuple(linear_codes_of(compressor)) == SIZES


@pytest.mark.parametrize("k", SIZES)
def test_it_computes_the_formula_written_plainly(k):
    made, branch = opened("nested", 3, grid_sizes=SIZES)
    first, block, norm, last = branch
    x = tokens()
    h = F.linear(x, first.weight, first.bias)
    y = F.layer_norm(h, (W,), block.norm.weight, block.norm.bias)
    y = F.conv2d(y.transpose(1, 2).reshape(-1, W, G, G), block.conv.weight, block.conv.bias, padding=1)
    h = h + F.linear(F.gelu(y.flatten(2).transpose(1, 2)), block.mix.weight, block.mix.bias)
    h = F.layer_norm(h, (W,), norm.weight, norm.bias).view(-1, G, G, W)
    rows = [(i * G // k, -(-(i + 1) * G // k)) for i in range(k)]
    expected = [
        x.view(-1, G, G, C)[:, a:b, c:d].mean((1, 2)) + F.linear(h[:, a:b, c:d].mean((1, 2)), last.weight, last.bias)
        for a, b in rows
        for c, d in rows
    ]
    torch.testing.assert_close(made(x, k), torch.stack(expected, 1))


def test_every_k_shares_all_weights_and_has_a_decoder_of_its_own():
    (several, decoders), (one, decoder) = networks("pool"), networks_of_one()
    assert parameters(several) == parameters(one)
    assert parameters(decoders) > parameters(decoder)
    several.load_state_dict(one.state_dict())
    assert torch.equal(several(tokens(), 3), one(tokens()))


def networks_of_one():
    return build_networks(asked("nested", 3, grid_sizes=(3,)), DECODERS[0], C, G)


def test_a_gradient_at_one_k_reaches_its_own_decoder_alone():
    compressor, back = networks("pool")
    back(compressor(tokens(), 5)).square().sum().backward()
    reached = {name.split(".")[1] for name, p in back.named_parameters() if p.grad is not None}
    assert reached == {"5"}


def test_the_k_that_is_asked_for_reaches_a_nested_compressor_alone():
    nested, plain = (build_compressor(asked(kind, 3), C, G) for kind in ("nested", "conv"))
    assert at_size(plain, 3) is plain
    assert torch.equal(at_size(nested, 3)(tokens()), nested(tokens()))
