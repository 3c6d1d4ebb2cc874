"""The class token's attention against the encoders' own blocks."""

import pytest
import torch

from toconv import config
from toconv.errors import EncoderError
from toconv.tokens.batches import Batches
from toconv.tokens.class_attention import ClassAttention, class_attention
from toconv.tokens.encoders import load_encoder
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore

CPU = torch.device("cpu")


def test_of_a_clip_encoder_it_is_the_softmax_of_the_class_tokens_query_and_the_keys(tiny_encoder):
    block = load_encoder(config.compose(tiny_encoder).encoder, CPU).visual.transformer.resblocks[-1]
    tokens, class_token = torch.randn(2, 5, 32), torch.randn(2, 32)
    x = block.ln_1(torch.cat([class_token[:, None], tokens], dim=1))
    query, key, _ = (x @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).unflatten(-1, (3, 2, 16)).unbind(2)
    expected = torch.einsum("bhd,bthd->bht", query[:, 0], key).div(16**0.5).softmax(-1).mean(1)[:, 1:]
    torch.testing.assert_close(class_attention(block, tokens, class_token), expected)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_of_a_timm_tower_it_is_what_its_own_attention_without_fusion_computes(qk_norm):
    from timm.models.vision_transformer import Block

    torch.manual_seed(0)
    block, shares = Block(32, 2, qkv_bias=True, qk_norm=qk_norm).eval(), []
    tokens, class_token = torch.randn(2, 5, 32), torch.randn(2, 32)
    block.attn.fused_attn = False
    block.attn.attn_drop.register_forward_hook(lambda module, taken, given: shares.append(given))
    block(torch.cat([class_token[:, None], tokens], dim=1))
    torch.testing.assert_close(class_attention(block, tokens, class_token), shares[0].mean(1)[:, 0, 1:])


def test_each_image_of_a_store_has_its_own_class_token_in_any_batch(settings):
    store = TokenStore(prepare_store(settings))
    x = torch.cat(list(Batches(store, "val", 4, CPU)))
    attention = ClassAttention(store, settings.encoder, CPU)
    block = load_encoder(settings.encoder, CPU).visual.transformer.resblocks[-1]
    raw = store.read("val", torch.arange(store.count("val"))).float()
    expected = class_attention(block, raw, store.class_tokens("val"))
    torch.testing.assert_close(attention(x), expected, rtol=1e-3, atol=1e-5)
    order = torch.tensor([4, 0, 2])
    torch.testing.assert_close(attention(x[order]), expected[order], rtol=1e-3, atol=1e-5)


def test_an_encoder_without_such_attention_says_so(tiny, settings):
    last = config.compose({**tiny, "encoder.layer": -1})
    with pytest.raises(EncoderError, match="no block of the encoder comes after the layer of the tokens"):
        ClassAttention(TokenStore(prepare_store(settings)), last.encoder, CPU)
    with pytest.raises(EncoderError, match=r"a block of the encoder \(Linear\) has no attention that is known"):
        class_attention(torch.nn.Linear(4, 4), torch.zeros(1, 2, 4), torch.zeros(1, 4))
