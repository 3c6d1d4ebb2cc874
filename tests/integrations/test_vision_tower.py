"""A compressed vision tower: the interface that LLaVA's CLIP tower has, over encoders of both kinds."""

import warnings
from dataclasses import asdict, replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from tests.compressors import compressor
from tests.conftest import TINY, TINY_GRID
from toconv.errors import EncoderError, EncoderMismatch, RequestError
from toconv.export.from_checkpoint import encoder_facts
from toconv.integrations.hugging_face import load_clip
from toconv.integrations.vision_tower import CompressedVisionTower, ImageProcessor, image_processor
from toconv.tokens.encoders import load_encoder
from toconv.tokens.images import Picture
from toconv.tokens.pixels import crops, decode

CPU, K, WIDTH, LAYERS, SIZE = torch.device("cpu"), 3, TINY["vision_cfg"]["width"], TINY["vision_cfg"]["layers"], 24


@pytest.fixture
def facts(settings):
    return encoder_facts(settings.encoder)


@pytest.fixture
def made(facts):
    return compressor(K, asdict(facts))


@pytest.fixture
def clip(settings):
    """transformers' CLIP vision model with the very weights of the tiny encoder, carried over by hand."""
    ours = load_encoder(settings.encoder, CPU).visual.state_dict()
    model = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS,
            image_size=SIZE,
            patch_size=4,
            num_attention_heads=WIDTH // TINY["vision_cfg"]["head_width"],
            hidden_act="gelu",
        )
    )
    names = dict(model.named_parameters())
    prefix = "vision_model." if any(n.startswith("vision_model.") for n in names) else ""
    theirs = {
        "embeddings.class_embedding": ours["class_embedding"],
        "embeddings.patch_embedding.weight": ours["conv1.weight"],
        "embeddings.position_embedding.weight": ours["positional_embedding"],
        **{
            f"{to}.{part}": ours[f"{of}.{part}"]
            for part in ("weight", "bias")
            for to, of in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post"))
        },
    }
    for i in range(LAYERS):
        block, layer = f"transformer.resblocks.{i}", f"encoder.layers.{i}"
        for part in ("weight", "bias"):
            for name, piece in zip("qkv", ours[f"{block}.attn.in_proj_{part}"].chunk(3), strict=True):
                theirs[f"{layer}.self_attn.{name}_proj.{part}"] = piece
            for to, of in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                theirs[f"{layer}.{to}.{part}"] = ours[f"{block}.{of}.{part}"]
    assert {prefix + name for name in theirs} == set(names)
    with torch.no_grad():
        for name, value in theirs.items():
            names[prefix + name].copy_(value)
    return model.eval()


def pixels(images=2, size=SIZE):
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_both_kinds_of_encoder_give_the_same_compressed_tokens(settings, made, clip):
    own = CompressedVisionTower(made, settings.encoder)
    theirs = CompressedVisionTower(made, clip)
    tokens_BNC, _ = load_encoder(settings.encoder, CPU)(pixels())
    assert tokens_BNC.shape == (2, TINY_GRID**2, WIDTH)
    torch.testing.assert_close(own(pixels()), made(tokens_BNC.clone()))
    torch.testing.assert_close(theirs(pixels()), own(pixels()), rtol=1e-4, atol=1e-4)
    assert tokens_BNC.std() > 0.01 and own(pixels()).std() > 0.01


def test_it_has_what_llava_asks_its_tower_for(made, clip):
    tower = CompressedVisionTower(made, clip)
    assert tower.is_loaded and (tower.hidden_size, tower.num_patches, tower.num_patches_per_side) == (WIDTH, K * K, K)
    assert tower.config is clip.config and tower.dtype == torch.float32 and tower.device == CPU
    assert tower.dummy_feature.shape == (1, WIDTH) and not tower.dummy_feature.any()
    batch = tower(pixels(3))
    assert batch.shape == (3, K * K, WIDTH)
    each = tower(list(pixels(3)))
    assert [z.shape for z in each] == [(1, K * K, WIDTH)] * 3
    torch.testing.assert_close(torch.cat(each), batch, rtol=1e-4, atol=1e-5)
    assert tower(pixels().half()).dtype == torch.float16


def test_it_may_be_loaded_later_and_only_once(settings, made):
    tower = CompressedVisionTower(made, settings.encoder, delay_load=True)
    assert not tower.is_loaded and tower.num_patches == K * K and tower.config.image_size == SIZE
    with pytest.raises(RequestError, match="call load_model"):
        tower(pixels())
    tower.load_model()
    encoder = tower.vision_tower
    tower.load_model()
    assert tower.is_loaded and tower.vision_tower is encoder and tower.image_processor is not None


def test_gradients_stop_at_the_encoder_and_reach_the_compressor_where_it_is_asked_for(made, clip):
    assert not CompressedVisionTower(made, clip)(pixels()).requires_grad
    tower = CompressedVisionTower(made, clip, train_compressor=True)
    tower(pixels()).square().sum().backward()
    assert all(p.grad is None for p in tower.vision_tower.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.compressor.compressor.parameters())


@pytest.mark.parametrize(
    ("wrong", "values"),
    [({"width": 48}, "48.*32"), ({"image_size": 32}, "32.*24"), ({"blocks": 4}, "4.*3"), ({"patch_size": 6}, "6.*4")],
)
def test_a_compressor_of_another_encoder_is_refused_with_both_values(facts, clip, wrong, values):
    with pytest.raises(EncoderMismatch, match=values):
        CompressedVisionTower(compressor(K, asdict(replace(facts, **wrong))), clip)


def test_another_activation_another_layer_and_the_class_token_are_refused(facts, clip, made):
    clip.config.hidden_act = "quick_gelu"
    with pytest.raises(EncoderMismatch, match="without QuickGELU.*quick_gelu"):
        CompressedVisionTower(made, clip)
    with pytest.raises(EncoderMismatch, match="layer.*-2.*-1"):
        CompressedVisionTower(made, clip, SimpleNamespace(mm_vision_select_layer=-1))
    with pytest.raises(RequestError, match="cls_patch"):
        CompressedVisionTower(made, clip, SimpleNamespace(mm_vision_select_feature="cls_patch"))


def test_other_weights_of_the_same_encoder_are_refused(settings, facts):
    other = compressor(K, asdict(replace(facts, weights="sha256:0000")))
    with pytest.raises(EncoderMismatch, match="sha256:0000"):
        CompressedVisionTower(other, settings.encoder)


def test_images_of_another_size_are_refused(made, clip):
    with pytest.raises(RequestError, match="32, 32.*24, 24"):
        CompressedVisionTower(made, clip)(pixels(size=32))


def test_both_image_processors_prepare_pictures_as_the_token_store_does(settings, facts, photographs):
    from PIL import Image

    one = settings.data.model_copy(update={"crops": 1})
    for path in sorted(photographs.iterdir())[:3]:
        expected = crops(Picture(path.name, path), one, settings.encoder)
        own = ImageProcessor(facts)
        assert torch.equal(own.preprocess(decode(Picture(path.name, path)))["pixel_values"], expected)
        theirs = image_processor(facts)
        assert own.crop_size["height"] == theirs.crop_size["height"] == SIZE
        assert own.size["shortest_edge"] == theirs.size["shortest_edge"] == SIZE
        with Image.open(path) as picture:
            found = theirs.preprocess(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
        assert found.shape == expected.shape
        assert (found - expected).abs().mean() < 2 / 255 / min(facts.std)  # decoders and resizing round differently


def test_a_picture_of_16_bits_is_scaled_for_the_image_processor(facts):
    from PIL import Image

    grey = (torch.arange(40 * 30, dtype=torch.int32) * 50).view(30, 40)
    found = ImageProcessor(facts).preprocess(Image.fromarray(grey.numpy().astype("uint16")))["pixel_values"]
    expected = ImageProcessor(facts).preprocess((grey >> 8).to(torch.uint8).expand(3, -1, -1))["pixel_values"]
    assert torch.equal(found, expected)


def test_a_hubs_clip_is_that_of_the_commit_that_is_named_or_warned_of(clip, tmp_path, monkeypatch):
    commit = "3" * 40
    clip.save_pretrained(tmp_path / "models--someone--clip" / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with warnings.catch_warnings(action="error"):
        found = load_clip(f"someone/clip@{commit}", None)
    assert all(torch.equal(found.state_dict()[name], weight) for name, weight in clip.state_dict().items())
    with (
        pytest.raises(EncoderError, match="someone/clip: no CLIP vision model"),
        pytest.warns(match="@COMMIT names them"),
    ):
        load_clip("someone/clip", None)
    clip.save_pretrained(tmp_path / "of@here")
    with warnings.catch_warnings(action="error"):
        load_clip(str(tmp_path / "of@here"), None)
