"""SiLU(LayerNorm(x)) and its first two derivatives against autograd's own."""

import pytest
import torch
from torch import nn

from toconv.models.kernels.norm_silu import NormSiLU, _NormSiLU, plain_norm_silu


def inputs(rows=5, width=6):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((rows, width), (width,), (width,))
    )
    return [t.requires_grad_(True) for t in (3 * x, weight, bias)]


def test_its_gradient_and_second_gradient_are_those_of_finite_differences():
    def work(x, weight, bias):
        return _NormSiLU.apply(x, weight, bias, 1e-5)

    torch.testing.assert_close(work(*inputs()), plain_norm_silu(*inputs(), 1e-5))
    assert torch.autograd.gradcheck(work, inputs()) and torch.autograd.gradgradcheck(work, inputs())


@pytest.mark.parametrize("shape", [(6,), (7, 6), (2, 3, 6)])
def test_it_is_silu_after_layer_norm_also_in_a_penalty_on_its_gradient(shape):
    ours, norm = NormSiLU(6), nn.LayerNorm(6)
    x, (_, weight, bias) = torch.randn(shape, generator=torch.Generator().manual_seed(1)), inputs()
    state = {"weight": weight.detach().float(), "bias": bias.detach().float()}
    ours.load_state_dict(state)
    norm.load_state_dict(state)
    found = []
    for layers, parameters in ((ours, ours.parameters()), (nn.Sequential(norm, nn.SiLU()), norm.parameters())):
        leaf, parameters = x.clone().requires_grad_(True), list(parameters)
        y = layers(leaf)
        (gradient,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        penalty = (gradient.norm(dim=-1) - 1).square().mean()
        found.append([y, gradient, *torch.autograd.grad(penalty, [leaf, *parameters])])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
