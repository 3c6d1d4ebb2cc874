"""A small LLaVA of transformers with a compressed tower: it generates, learns, and sees k² image tokens."""

from dataclasses import asdict, replace

import pytest
import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

from examples.tiny_llava import WORDS, tiny_llava
from tests.compressors import compressor
from toconv.errors import EncoderMismatch, RequestError
from toconv.export.module import EncoderFacts
from toconv.integrations.llava import compress_llava

SIDE, PATCH, G, WIDTH, LAYERS = 24, 4, 6, 32, 3
FACTS = EncoderFacts(
    "tiny", "ViT-quickgelu", "sha256:0", -2, SIDE, PATCH, WIDTH, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), LAYERS
)


@pytest.fixture
def llava():
    return tiny_llava(FACTS)


def asked(processor, images=1):
    pictures = [
        torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        for i in range(images)
    ]
    return processor(images=pictures, text=["<image> what is this"] * images, return_tensors="pt")


def image_positions(inputs):
    return (inputs["input_ids"] == WORDS.index("<image>")).sum(1).tolist()


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_the_language_model_sees_k_squared_image_tokens_where_it_saw_all(llava, k):
    model, processor = llava
    before = asked(processor, 2)
    assert image_positions(before) == [G * G] * 2
    seen = []
    model.model.language_model.register_forward_hook(
        lambda module, args, kwargs, out: seen.append(out.last_hidden_state.shape[1]), with_kwargs=True
    )
    with torch.no_grad():
        model(**before)
        compress_llava(model, processor, compressor(k, asdict(FACTS)))
        after = asked(processor, 2)
        model(**after)
    assert image_positions(after) == [k * k] * 2
    assert seen[0] - seen[1] == G * G - k * k
    assert model.config.image_seq_length == k * k


def test_image_features_are_the_projected_tokens_of_tower_and_compressor_put_together_by_hand(llava):
    model, processor = llava
    made = compressor(3, asdict(FACTS))
    pixels = asked(processor, 2)["pixel_values"]
    with torch.no_grad():
        hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        expected = model.model.multi_modal_projector(made(hidden))
        compress_llava(model, processor, made)
        found = model.get_image_features(pixels)
    found = getattr(found, "pooler_output", found)
    torch.testing.assert_close(torch.stack(list(found)).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_a_tower_of_siglip_without_a_class_token_is_compressed_as_any_other(llava):
    clip, processor = llava
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    vision = SiglipVisionConfig(image_size=SIDE, patch_size=PATCH, **sizes)
    given = {**clip.config.to_dict(), "vision_config": vision, "vision_feature_select_strategy": "full"}
    model = LlavaForConditionalGeneration(LlavaConfig(**given)).eval()
    square = {"height": SIDE, "width": SIDE}
    processor.image_processor = SiglipImageProcessor(size=square, image_mean=FACTS.mean, image_std=FACTS.std)
    made = compressor(3, asdict(replace(FACTS, architecture="ViT-B-16-SigLIP")))
    pixels = asked(processor, 2)["pixel_values"]
    with torch.no_grad():
        hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
        expected = model.model.multi_modal_projector(made(hidden))
        compress_llava(model, processor, made)
        after = asked(processor, 2)
        found = model.get_image_features(after["pixel_values"])
        model(**after)
    found = getattr(found, "pooler_output", found)
    torch.testing.assert_close(torch.stack(list(found)).reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    assert image_positions(after) == [9] * 2


def test_it_generates(llava):
    model, processor = llava
    compress_llava(model, processor, compressor(2, asdict(FACTS)))
    inputs = asked(processor)
    out = model.generate(**inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert out.shape == (1, inputs["input_ids"].shape[1] + 4)


@pytest.mark.parametrize("train_compressor", [False, True])
def test_gradients_reach_the_projector_and_the_compressor_only_where_it_is_asked_for(llava, train_compressor):
    model, processor = llava
    made = compressor(2, asdict(FACTS))
    compress_llava(model, processor, made, train_compressor)
    inputs = asked(processor)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.model.multi_modal_projector.parameters())
    tower = model.model.vision_tower.tower
    assert all(p.grad is None for p in tower.vision_tower.parameters())
    reached = [p.grad is not None and p.grad.abs().sum() > 0 for p in tower.compressor.parameters()]
    assert any(reached) == train_compressor
    assert all(p.grad is None for p in made.parameters()), "the model has a copy of its own"


def test_a_compressed_model_saved_and_read_again_says_the_same(llava, tmp_path):
    model, processor = llava
    compress_llava(model, processor, compressor(3, asdict(FACTS)))
    inputs = asked(processor)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits)
    assert image_positions(asked(LlavaProcessor.from_pretrained(tmp_path))) == [9]


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ({"width": 48}, "48.*32"),
        ({"layer": -1}, "layer.*-1.*-2"),
        ({"image_size": 32}, "32.*24"),
        ({"mean": (0.4, 0.5, 0.5)}, "0.4.*0.5"),
    ],
)
def test_a_compressor_of_another_tower_layer_or_preprocessing_is_refused_and_changes_nothing(llava, change, values):
    model, processor = llava
    with pytest.raises(EncoderMismatch, match=values):
        compress_llava(model, processor, compressor(2, {**asdict(FACTS), **change}))
    assert image_positions(asked(processor)) == [G * G] and model.config.image_seq_length == G * G
    with torch.no_grad():
        assert torch.isfinite(model(**asked(processor)).logits).all()


def test_a_tower_is_compressed_once_and_only_that_of_a_llava(llava):
    model, processor = llava
    compress_llava(model, processor, compressor(2, asdict(FACTS)))
    with pytest.raises(RequestError, match="compressed already"):
        compress_llava(model, processor, compressor(2, asdict(FACTS)))
    with pytest.raises(RequestError, match="Linear"):
        compress_llava(torch.nn.Linear(2, 2), processor, compressor(2, asdict(FACTS)))
