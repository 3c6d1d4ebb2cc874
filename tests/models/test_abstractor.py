"""The C-Abstractor against timm's RegNet stages, of which Honeybee's own is made."""

from functools import partial

import pytest
import torch
from timm.layers import LayerNorm2d
from timm.models.regnet import RegStage
from torch import nn

from tests.models.branches import G, W, opened, tokens
from toconv import grid


def stage(blocks):
    """timm's, with the numbers of ours."""
    normed = partial(LayerNorm2d, eps=1e-5)
    made = RegStage(len(blocks), W, W, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=normed, group_size=8)
    for theirs, ours in zip(made.children(), blocks, strict=True):
        pointwise = [theirs.conv1.conv, theirs.conv3.conv, theirs.se.fc1, theirs.se.fc2]
        with torch.no_grad():
            for conv, linear in zip(pointwise, (ours.first, ours.last, ours.squeeze, ours.excite), strict=True):
                conv.weight.copy_(linear.weight[:, :, None, None])
                if linear.bias is not None:
                    conv.bias.copy_(linear.bias)
        theirs.conv2.conv.load_state_dict(ours.conv.state_dict())
        for norm, same in zip((theirs.conv1.bn, theirs.conv2.bn, theirs.conv3.bn), ours.norms, strict=True):
            norm.load_state_dict(same.state_dict())
    return made


@pytest.mark.parametrize(("k", "blocks"), [(3, 1), (5, 2)])
def test_stages_of_regnet_before_and_after_adaptive_average_pooling(k, blocks):
    made, branch = opened("abstractor", k, blocks=blocks)
    read, (before, after, readout) = branch[0], (branch[1 : 1 + blocks], branch[2 + blocks : -3], branch[-3:])
    x_BChw = read(tokens()).view(2, G, G, W).permute(0, 3, 1, 2)
    y_BChw = stage(after)(nn.AdaptiveAvgPool2d(k)(stage(before)(x_BChw)))
    expected = readout(y_BChw.permute(0, 2, 3, 1).flatten(1, 2))
    torch.testing.assert_close(made(tokens()) - grid.pool(tokens(), k), expected, atol=1e-4, rtol=1e-4)
