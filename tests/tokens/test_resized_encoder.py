"""Encoders at fewer pixels, against what their libraries do with weights of another size."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch

from toconv import config
from toconv.errors import EncoderError
from toconv.tokens.encoders import load_encoder
from toconv.tokens.resized_encoder import resized_encoder

CPU = torch.device("cpu")


@pytest.mark.parametrize("k", [1, 2, 4])
def test_a_clip_encoders_positions_are_interpolated_as_open_clip_does_it_for_weights_of_another_size(tiny_encoder, k):
    from open_clip.model import resize_pos_embed

    encoder, pixels = load_encoder(config.compose(tiny_encoder).encoder, CPU), torch.randn(2, 3, 4 * k, 4 * k)
    state = {"visual.positional_embedding": encoder.visual.positional_embedding}
    resize_pos_embed(state, SimpleNamespace(visual=SimpleNamespace(grid_size=(k, k))))
    expected = deepcopy(encoder)
    expected.visual.positional_embedding = torch.nn.Parameter(state["visual.positional_embedding"])
    torch.testing.assert_close(resized_encoder(encoder, 4, k)(pixels), expected(pixels))


def test_the_embedded_encoders_positions_are_interpolated_as_timm_does_it_for_pictures_of_any_size():
    from timm.layers import resample_abs_pos_embed

    encoder = load_encoder(config.compose({"encoder.dtype": "fp32"}).encoder, CPU)
    trunk, pixels = encoder.visual.trunk, torch.randn(1, 3, 84, 84)
    resized, again = resized_encoder(encoder, 14, 6), resized_encoder(encoder, 14, 24)
    with torch.inference_mode():
        x = torch.nn.functional.conv2d(pixels, trunk.patch_embed.proj.weight, trunk.patch_embed.proj.bias, 14)
        x = torch.cat([trunk.cls_token, x.flatten(2).mT], dim=1)
        x = x + resample_abs_pos_embed(trunk.pos_embed, (6, 6), (24, 24), num_prefix_tokens=1)
        for block in trunk.blocks[:10]:
            x = block(x)
    tokens, class_token = resized(pixels)
    torch.testing.assert_close(tokens, x[:, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(class_token, x[:, 0], rtol=1e-4, atol=1e-4)
    assert torch.equal(again.visual.trunk.pos_embed, trunk.pos_embed)


def test_all_weights_but_the_positions_are_shared(tiny_encoder):
    encoder = load_encoder(config.compose(tiny_encoder).encoder, CPU)
    own, small = (dict(e.named_parameters()) for e in (encoder, resized_encoder(encoder, 4, 2)))
    assert {name for name in own if own[name] is not small[name]} == {"visual.positional_embedding"}
    assert own["visual.positional_embedding"].shape == (37, 32)


def test_an_encoder_of_one_size_alone_says_so(tiny_encoder):
    encoder = load_encoder(config.compose(tiny_encoder).encoder, CPU)
    encoder.visual.positional_embedding = None
    with pytest.raises(EncoderError, match=r"the encoder gives no 2x2 tokens of 8 px \("):
        resized_encoder(encoder, 4, 2)
