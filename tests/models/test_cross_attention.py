"""TokenPacker region by region, and the resampler, against torch's own multi-head attention."""

import pytest
import torch
from torch import nn

from tests.models.branches import W, opened, tokens, windows
from toconv import grid


def multihead(heads, query, key, value, answer):
    """torch's, with the numbers of ours: (weight, bias) of each map."""
    made = nn.MultiheadAttention(W, heads, batch_first=True)
    with torch.no_grad():
        made.in_proj_weight.copy_(torch.cat([query[0], key[0], value[0]]))
        made.in_proj_bias.copy_(torch.cat([query[1], key[1], value[1]]))
    made.out_proj.load_state_dict(answer.state_dict())
    return made


def numbers(linear):
    return linear.weight, linear.bias if linear.bias is not None else torch.zeros(W)


@pytest.mark.parametrize("k", [3, 5])
def test_each_pooled_query_attends_to_the_tokens_of_its_own_region(k):
    made, branch = opened("token_packer", k)
    attend = multihead(2, *(numbers(layer) for layer in (branch.query, branch.key, branch.value)), branch.answer)
    pooled_BMC, answers = grid.pool(tokens(), k), []
    for cell, region_BSC in enumerate(windows(tokens(), k)):
        query_B1W = branch.ask(pooled_BMC[:, cell : cell + 1])
        answers.append(attend(query_B1W, branch.keys(region_BSC), branch.values(region_BSC))[0])
    torch.testing.assert_close(made(tokens()) - pooled_BMC, branch.mlp(torch.cat(answers, 1)), atol=1e-5, rtol=1e-4)


def test_a_region_is_all_that_a_token_of_token_packer_sees():
    made, _ = opened("token_packer", 3)
    x = tokens().requires_grad_(True)
    made(x)[0, 0].sum().backward()
    seen = x.grad[0].abs().sum(-1).view(12, 12) > 0
    assert seen[:4, :4].all() and not seen[4:].any() and not seen[:, 4:].any()


@pytest.mark.parametrize(("k", "layers"), [(3, 1), (5, 2)])
def test_learned_queries_attend_to_all_tokens_layer_by_layer(k, layers):
    made, branch = opened("resampler", k, blocks=layers)
    memory = branch.norm(branch.read(tokens()) + branch.places_NW)
    query = branch.queries_MW.expand(2, -1, -1)
    for layer in branch.layers:
        key, value = ((layer.key_value.weight.chunk(2)[n], layer.key_value.bias.chunk(2)[n]) for n in (0, 1))
        attend = multihead(2, numbers(layer.query), key, value, layer.answer)
        query = query + attend(layer.norm(query), memory, memory)[0]
        query = query + layer.mlp(query)
    torch.testing.assert_close(made(tokens()) - grid.pool(tokens(), k), branch.last(query), atol=1e-5, rtol=1e-4)
