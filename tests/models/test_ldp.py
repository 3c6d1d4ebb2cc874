"""LDPv2 against arXiv 2402.03766, section 3.3, in torch's own layers."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.branches import G, W, opened, tokens
from toconv import grid


@pytest.mark.parametrize("k", [3, 5])
def test_pointwise_layers_pooling_and_a_depthwise_convolution_with_a_shortcut(k):
    made, branch = opened("ldp", k)
    first, _, second, _, peg, last = branch
    f_BChw = tokens().view(2, G, G, -1).permute(0, 3, 1, 2)
    f_BChw = F.gelu(F.conv2d(f_BChw, first.weight[:, :, None, None], first.bias))
    f_BChw = F.conv2d(f_BChw, second.weight[:, :, None, None], second.bias)
    f1_BChw = F.adaptive_avg_pool2d(f_BChw, k)
    depthwise = [
        F.conv2d(f1_BChw[:, c : c + 1], peg.conv.weight[c : c + 1], peg.conv.bias[c : c + 1], padding=1)
        for c in range(W)
    ]
    h_BChw = torch.cat(depthwise, 1) + f1_BChw
    expected = F.conv2d(h_BChw, last.weight[:, :, None, None], last.bias).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(made(tokens()) - grid.pool(tokens(), k), expected, atol=1e-5, rtol=1e-4)
