"""Models of timm and open_clip by name, with random weights of a file, against those libraries' own forward passes."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch

from tests.small_encoders import BLOCKS, WIDTH, randomised, small_encoder
from toconv import config
from toconv.errors import EncoderError
from toconv.tokens.encoder_models import TimmTower, count_blocks, load_classifier
from toconv.tokens.encoders import EncoderTail, FrozenEncoder, load_encoder

CPU = torch.device("cpu")
PREFIX = {  # how many stand beside the grid, and whether the first is a class token
    "tiny_siglip": (0, False),
    "tiny_siglip_gap": (0, False),
    "tiny_dinov2_reg4": (5, True),
    "test_vit": (1, True),
    "test_vit3": (1, False),
    "deit_tiny_distilled_patch16_224": (2, True),
}


def pictures(settings, count=2):
    size = settings.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "layer"),
    [*((name, -2) for name in PREFIX), *((name, layer) for name in [*PREFIX][:3] for layer in (0, -1))],
)
def test_tokens_and_what_stands_beside_them_lead_to_the_models_own_embedding(tmp_path, name, layer):
    settings = config.compose(small_encoder(tmp_path, name, **{"encoder.layer": layer})).encoder
    encoder, pixels = load_encoder(settings, CPU), pictures(settings)
    own = timm.create_model(name, num_classes=0).eval()
    state = torch.load(settings.weights)
    own.load_state_dict({key: value for key, value in state.items() if not key.startswith("head")})
    tokens, prefix = encoder(pixels)
    with torch.inference_mode():
        x = own.norm_pre(own.patch_drop(own._pos_embed(own.patch_embed(pixels))))
        for block in own.blocks[: layer % len(own.blocks) + 1]:
            x = block(x)
        torch.testing.assert_close(torch.cat([prefix, tokens], dim=1), x)
        torch.testing.assert_close(EncoderTail(encoder)(tokens, prefix), own(pixels), rtol=1e-4, atol=1e-4)
    assert (prefix.shape[1], encoder.has_class_token) == PREFIX[name]
    assert count_blocks(settings) == len(own.blocks)
    assert load_classifier(settings, CPU) is None


def test_without_a_class_token_compressed_tokens_are_pooled_by_the_encoders_own_attention(tmp_path):
    encoder = load_encoder(config.compose(small_encoder(tmp_path, "tiny_siglip")).encoder, CPU)
    trunk, compressed = encoder.visual.trunk, torch.randn(2, 9, WIDTH)
    embedding, last = EncoderTail(encoder).last_layer(compressed, torch.empty(2, 0, WIDTH))
    with torch.no_grad():
        expected = trunk.norm(trunk.blocks[-1](compressed))
        torch.testing.assert_close(last, expected)
        torch.testing.assert_close(embedding, trunk.fc_norm(trunk.attn_pool(expected)))


def test_a_model_at_another_size_of_picture_has_its_positions_resized_as_timm_does(tmp_path):
    settings = config.compose(small_encoder(tmp_path, "tiny_dinov2_reg4", **{"encoder.image_size": 56})).encoder
    own = timm.create_model("tiny_dinov2_reg4")
    own.load_state_dict(torch.load(settings.weights))
    own.set_input_size(56)
    own.reset_classifier(0)
    encoder, pixels = load_encoder(settings, CPU), pictures(settings)
    assert settings.grid_size == 14
    with torch.inference_mode():
        torch.testing.assert_close(encoder.visual(pixels), own.eval()(pixels))


@pytest.mark.parametrize("size", [110, 44])
def test_open_clip_builds_a_tower_of_timms_without_a_class_token(tmp_path, size):
    import open_clip

    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1}
    vision = {"timm_model_name": "tiny_siglip", "timm_pool": "map", "timm_proj": "none", "image_size": size}
    path, weights = tmp_path / f"toconv_siglip_{size}.json", tmp_path / "siglip.pt"
    path.write_text(json.dumps({"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text, "custom_text": True}))
    open_clip.add_model_config(path)
    model = randomised(open_clip.create_model(path.stem))
    torch.save(model.state_dict(), weights)
    asked = {"encoder.architecture": str(path), "encoder.weights": str(weights), "encoder.dtype": "fp32"}
    statistics = {"encoder.mean": [0.5] * 3, "encoder.std": [0.5] * 3}
    settings = config.compose({"encoder": "open_clip", **asked, **statistics}).encoder
    assert (settings.image_size, settings.grid_size, settings.width) == (size, size // 4, WIDTH)
    encoder, pixels = load_encoder(settings, CPU), pictures(settings)
    tokens, prefix = encoder(pixels)
    assert prefix.shape == (2, 0, WIDTH) and count_blocks(settings) == BLOCKS
    model.visual.set_input_size(size)
    with torch.inference_mode():
        own = model.encode_image(pixels)
    torch.testing.assert_close(EncoderTail(encoder)(tokens, prefix), own, rtol=1e-4, atol=1e-4)
    assert load_classifier(settings, CPU) is None


def test_weights_that_are_not_whole_are_refused(tmp_path):
    given = small_encoder(tmp_path, "test_vit")
    state = torch.load(given["encoder.weights"])
    del state["blocks.2.attn.qkv.weight"]
    torch.save(state, given["encoder.weights"])
    with pytest.raises(EncoderError, match=r"encoder.architecture=test_vit, .*not loaded .*blocks.2.attn.qkv.weight"):
        load_encoder(config.compose(given).encoder, CPU)


def test_blocks_that_place_their_tokens_are_refused_by_what_they_compute(tmp_path):
    """Even where no name gives them away."""
    from toconv.tokens.encoders import _check

    settings = config.compose(small_encoder(tmp_path, "test_vit")).encoder
    model = randomised(timm.create_model("test_vit", num_classes=0))
    block, places = model.blocks[-1], torch.randn(1, 101, 64)
    model.blocks[-1].forward = lambda x, attn_mask=None: type(block).forward(block, x + places)
    with pytest.raises(EncoderError, match=r"test_vit: what follows layer -2 .* whatever their order \(off by"):
        _check(FrozenEncoder(TimmTower(model), -2, torch.float32), settings, CPU)


def test_open_clips_warning_of_random_weights_is_not_heard_from_two_threads_at_once(tiny_encoder, caplog):
    encoder = config.compose(tiny_encoder).encoder
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(lambda _: count_blocks(encoder), range(40))) == {3}
    assert not caplog.records
