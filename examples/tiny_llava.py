"""A LLaVA of random weights on an exported compressor, as an evaluation of a sweep:

    evaluation: {command: "python examples/tiny_llava.py {export} {output}", metric: logit_cosine, on: trials, gpu: 0}

It shows the way and measures nothing: an encoder and a language model that know nothing answer a question about
pictures of noise, with all image tokens and with the compressed ones. To have a number that means something, load a
trained model and its processor in place of `tiny_llava`. Needs transformers: pip install "toconv[llava]"."""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.functional import cosine_similarity
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

import toconv
from toconv.export.module import EncoderFacts
from toconv.integrations.llava import compress_llava
from toconv.integrations.vision_tower import quick_gelu

WORDS = ["<pad>", "<image>", "what", "is", "this", "a", "cat", "dog"]
PICTURES = 8


def tiny_llava(encoder: EncoderFacts) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Random weights behind a vision tower of the encoder's shape."""
    torch.manual_seed(0)
    side, blocks = encoder.image_size, encoder.blocks or 12
    vision = CLIPVisionConfig(
        hidden_size=encoder.width,
        intermediate_size=2 * encoder.width,
        num_hidden_layers=blocks,
        num_attention_heads=encoder.width // 16,
        hidden_act="quick_gelu" if quick_gelu(encoder.architecture) else "gelu",
        image_size=side,
        patch_size=encoder.patch_size,
    )
    text = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=WORDS.index("<image>"),
        image_seq_length=encoder.grid_size**2,
        vision_feature_layer=encoder.layer,
    )
    pixels = CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(encoder.mean),
        image_std=list(encoder.std),
    )
    more = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaForConditionalGeneration(config).eval(), LlavaProcessor(
        pixels, _tokenizer(), patch_size=encoder.patch_size, **more
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<pad>", additional_special_tokens=["<image>"]
    )


@torch.no_grad()
def answers(model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> torch.Tensor:
    """(pictures, words) logits of the first word of each answer."""
    noise = torch.Generator().manual_seed(1)
    pictures = [torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=noise) for _ in range(PICTURES)]
    inputs = processor(images=pictures, text=["<image> what is this"] * PICTURES, return_tensors="pt")
    return model(**inputs).logits[:, -1]


def main(export: str, output: str) -> None:
    compressor = toconv.load(export)
    model, processor = tiny_llava(compressor.encoder)
    before = answers(model, processor)
    compress_llava(model, processor, compressor)
    after = answers(model, processor)
    found = {
        "logit_cosine": cosine_similarity(before, after, dim=-1).mean().item(),
        "same_answer": (before.argmax(-1) == after.argmax(-1)).float().mean().item(),
    }
    Path(output).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
