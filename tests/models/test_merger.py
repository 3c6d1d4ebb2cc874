"""The merger against its formula, block by block."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.branches import opened, tokens, windows
from toconv import grid


@pytest.mark.parametrize("k", [3, 5])
def test_a_blocks_tokens_side_by_side_go_through_an_mlp(k):
    made, branch = opened("merger", k)
    norm, _, first, _, last = branch
    merged = [last(F.gelu(first(norm(block_BSC).flatten(1)))) for block_BSC in windows(tokens(), k)]
    torch.testing.assert_close(made(tokens()) - grid.pool(tokens(), k), torch.stack(merged, 1), atol=1e-5, rtol=1e-4)
