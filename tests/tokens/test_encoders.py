"""Token extraction against the encoders' own forward passes."""

import pytest
import torch

from toconv import config
from toconv.errors import EncoderError
from toconv.tokens.encoder_weights import resolve_weights, weights_identity
from toconv.tokens.encoders import EncoderTail, load_encoder, load_tail
from toconv.tokens.onnx_weights import read_timm_state, resize_positions

CPU = torch.device("cpu")


def test_tokens_of_a_clip_encoder_are_those_of_its_own_blocks_run_by_hand(tiny_encoder):
    encoder = load_encoder(config.compose(tiny_encoder).encoder, CPU)
    pixels = torch.randn(2, 3, 24, 24)
    tokens, prefix = encoder(pixels)
    visual = encoder.visual
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(2, 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    for block in list(visual.transformer.resblocks)[:-1]:
        x = block(x)
    torch.testing.assert_close(tokens, x[:, 1:])
    torch.testing.assert_close(prefix, x[:, :1])


def test_the_local_weights_are_the_ones_in_use(tiny_encoder):
    encoder = load_encoder(config.compose(tiny_encoder).encoder, CPU)
    saved = torch.load(tiny_encoder["encoder.weights"])
    torch.testing.assert_close(encoder.visual.conv1.weight, saved["visual.conv1.weight"])


@pytest.fixture(scope="module")
def embedded():
    return load_encoder(config.compose({"encoder.dtype": "fp32"}).encoder, CPU)


def test_tokens_of_the_embedded_encoder_are_those_of_block_10_run_by_hand(embedded):
    trunk, pixels = embedded.visual.trunk, torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(0))
    tokens, prefix = embedded(pixels)
    with torch.inference_mode():
        x = trunk.patch_embed(pixels).flatten(1, -2)
        x = torch.cat([trunk.cls_token.expand(1, -1, -1), x], dim=1) + trunk.pos_embed
        for block in trunk.blocks[:10]:
            x = block(x)
    torch.testing.assert_close(tokens, x[:, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(prefix, x[:, :1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [-3, -2, -1, 0])
def test_the_tail_gives_a_clip_encoders_own_embedding(tiny_encoder, layer):
    settings = config.compose(tiny_encoder, {"encoder.layer": layer}).encoder
    encoder, pixels = load_encoder(settings, CPU), torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        whole = encoder.visual(pixels)
    tokens = encoder(pixels)
    torch.testing.assert_close(EncoderTail(encoder)(*tokens), whole)


def test_the_tail_gives_the_embedded_encoders_own_embedding():
    settings = config.compose({"encoder.dtype": "fp32"}).encoder
    encoder, pixels = load_encoder(settings, CPU), torch.randn(1, 3, 336, 336)
    with torch.inference_mode():
        whole = encoder.visual(pixels)
    torch.testing.assert_close(load_tail(settings, CPU)(*encoder(pixels)), whole, rtol=1e-4, atol=1e-4)
    assert load_tail(settings, CPU) is load_tail(settings, CPU)


def test_the_tail_of_an_encoder_that_pools_all_its_tokens_runs_its_last_block_on_all_of_them(tiny_encoder):
    clip = load_encoder(config.compose(tiny_encoder, {"encoder.layer": -3}).encoder, CPU)
    clip.visual.pool_type = "avg"
    own = load_encoder(config.compose({"encoder.dtype": "fp32"}).encoder, CPU)
    own.visual.trunk.global_pool = "avg"
    for encoder, pixels in ((clip, torch.randn(2, 3, 24, 24)), (own, torch.randn(1, 3, 336, 336))):
        with torch.inference_mode():
            whole = encoder.visual(pixels)
        tokens = encoder(pixels)
        torch.testing.assert_close(EncoderTail(encoder)(*tokens), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", [-3, -2, -1])
def test_the_tails_last_layer_is_that_of_the_encoder(tiny_encoder, layer):
    encoder = load_encoder(config.compose(tiny_encoder, {"encoder.layer": layer}).encoder, CPU)
    tokens, pixels = [], torch.randn(2, 3, 24, 24)
    encoder.visual.ln_post.register_forward_hook(lambda *call: tokens.append(call[2][:, 1:]))
    with torch.inference_mode():
        whole = encoder.visual(pixels)
    of_all = encoder(pixels)
    embedding, last = EncoderTail(encoder).last_layer(*of_all)
    torch.testing.assert_close(embedding, whole)
    torch.testing.assert_close(last, tokens[0])


def test_a_tail_that_was_loaded_while_measuring_passes_gradients_to_the_tokens(tiny_encoder):
    settings = config.compose(tiny_encoder, {"encoder.layer": -3}).encoder
    with torch.inference_mode():
        tail = load_tail(settings, CPU)
    tokens = torch.randn(2, 5, settings.width, requires_grad=True)
    embedding = tail(tokens, torch.randn(2, 1, settings.width))
    (by_tokens,) = torch.autograd.grad(embedding.sum(), tokens)
    assert by_tokens.isfinite().all() and by_tokens.abs().sum() > 0
    assert not any(weight.requires_grad for weight in tail.parameters())


@pytest.mark.slow
def test_the_embedded_encoder_computes_what_its_onnx_graph_computes(embedded):
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(str(resolve_weights(config.compose({}).encoder)))
    names = [node.name for node in model.graph.node]
    last = names.index("/backbone/encoder/layer.9/Add_1")  # the sum that ends block 10
    output = model.graph.node[last].output[0]
    del model.graph.node[last + 1 :]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(1))
    (reference,) = ReferenceEvaluator(model).run(None, {"input_image": pixels.numpy()})
    tokens, prefix = embedded(pixels)
    ours = torch.cat([prefix, tokens], dim=1)
    torch.testing.assert_close(ours, torch.from_numpy(reference), rtol=1e-3, atol=1e-3)


def test_both_production_encoders_declare_the_pixel_statistics_of_their_libraries(embedded):
    import open_clip

    clip, own = config.compose({"encoder": "clip_vit_l_14_336"}).encoder, config.compose({}).encoder
    assert clip.mean == open_clip.OPENAI_DATASET_MEAN and clip.std == open_clip.OPENAI_DATASET_STD
    assert own.mean == embedded.visual.trunk.default_cfg["mean"]
    assert clip.grid_size == own.grid_size == 24


def test_the_embedded_weights_file_is_checked():
    settings = config.compose({}).encoder
    assert weights_identity(settings) == f"sha256:{settings.sha256}"
    with pytest.raises(EncoderError, match="sha256 is"):
        weights_identity(config.compose({"encoder.sha256": "0" * 64}).encoder)


def test_positions_are_resized_without_antialias():
    table = torch.randn(1, 37 * 37, 4, generator=torch.Generator().manual_seed(0))
    resized = resize_positions(table, 24).view(24, 24, 4)
    x = (12 + 0.5) * 37 / 24 - 0.5  # the four taps of a cubic with a = -0.75, by hand, both ways
    first, t = int(x) - 1, x - int(x)
    a = -0.75
    near = lambda d: (a + 2) * d**3 - (a + 3) * d**2 + 1  # noqa: E731
    far = lambda d: a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a  # noqa: E731
    weights = torch.tensor([far(1 + t), near(t), near(1 - t), far(2 - t)])
    patch = table.view(37, 37, 4)[first : first + 4, first : first + 4]
    expected = torch.einsum("i,j,ijc->c", weights, weights, patch)
    torch.testing.assert_close(resized[12, 12], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.weights": "/nowhere/weights.pt"}, "neither a file nor one of open_clip's tags"),
        ({"encoder.architecture": "nowhere.json"}, "no such open_clip model config"),
        ({"encoder.width": 16}, r"declare \(36, 16\)"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(tiny_encoder, change, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(config.compose({**tiny_encoder, **change}).encoder, CPU)


def test_weights_of_another_model_are_refused(tiny_encoder, tmp_path):
    torch.save({"visual.conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(EncoderError, match="not loaded"):
        load_encoder(config.compose({**tiny_encoder, "encoder.weights": str(tmp_path / "other.pt")}).encoder, CPU)


def test_the_onnx_reader_names_a_graph_that_it_does_not_know(tmp_path):
    from onnx import TensorProto, helper, save

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    save(helper.make_model(graph), tmp_path / "other.onnx")
    with pytest.raises(EncoderError, match="not the ONNX graph"):
        read_timm_state(tmp_path / "other.onnx", 24)
