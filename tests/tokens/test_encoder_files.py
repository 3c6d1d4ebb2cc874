"""What an encoder's files say of it, against the encoders themselves."""

import pytest
import torch
from safetensors.torch import save_file

from toconv import config
from toconv.errors import EncoderError
from toconv.tokens.encoder_files import check_files


def encoder(given, **changes):
    return config.compose({**given, **{f"encoder.{name}": value for name, value in changes.items()}}).encoder


@pytest.mark.parametrize(("layer", "said"), [(12, "has 12 blocks"), (-13, "-12 <= layer < 12")])
def test_the_embedded_encoder_has_the_blocks_of_its_graph(layer, said):
    check_files(encoder({}))
    with pytest.raises(EncoderError, match=f"encoder.layer={layer}: .*{said}"):
        check_files(encoder({}, layer=layer))


def test_every_mistake_is_named_at_once():
    with pytest.raises(EncoderError) as caught:
        check_files(encoder({}, layer=500, width=400, patch_size=13))
    assert [m.partition(":")[0] for m in caught.value.mistakes] == [
        "encoder.layer=500",
        "encoder.width=400",
        "encoder.patch_size=13",
    ]


def test_a_mistake_that_two_files_show_is_told_once(tiny_encoder):
    with pytest.raises(EncoderError) as caught:
        check_files(encoder(tiny_encoder, layer=7))
    assert len(caught.value.mistakes) == 1


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ("package:numpy/nope.onnx", "package numpy is installed and has no file nope.onnx"),
        ("package:sys/nope.onnx", "package sys is installed and has no file nope.onnx"),
        ("package:no_such_module/x.onnx", "package no_such_module is not installed$"),
        ("package:no.such/x.onnx", "package no.such is not installed$"),
        ("package:numpy", "must read package:MODULE/FILE"),
        ("package:../x", "must read package:MODULE/FILE"),
    ],
)
def test_a_file_that_no_package_has_is_told_with_what_is_missing(weights, why):
    with pytest.raises(EncoderError, match=why):
        check_files(encoder({}, weights=weights))


def test_a_model_of_open_clips_is_known_by_its_config(tiny_encoder):
    """Its weights being anybody's: of the tiny one here, which differ."""
    clip = {"encoder": "clip_vit_l_14_336", "encoder.weights": tiny_encoder["encoder.weights"]}
    with pytest.raises(EncoderError) as caught:
        check_files(encoder(clip, layer=24))
    assert any("encoder.architecture=ViT-L-14-336-quickgelu has 24 blocks" in m for m in caught.value.mistakes)
    assert any("encoder.width=1024: encoder.weights=" in m for m in caught.value.mistakes)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_are_read_in_each_format_and_below_each_prefix(tiny_encoder, tmp_path, suffix):
    state = torch.load(tiny_encoder["encoder.weights"], weights_only=True)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    check_files(encoder(tiny_encoder, weights=str(path)))
    with pytest.raises(EncoderError, match="has 3 blocks"):
        check_files(encoder(tiny_encoder, weights=str(path), layer=3))


def test_an_archive_of_torch_script_is_left_to_open_clip(tiny_encoder, tmp_path):
    path = tmp_path / "scripted.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert check_files(encoder(tiny_encoder, weights=str(path), layer=-3)) is None
    with pytest.raises(EncoderError, match="encoder.layer=3: encoder.architecture="):  # which it says nothing of
        check_files(encoder(tiny_encoder, weights=str(path), layer=3))


@pytest.mark.parametrize("name", ["x.onnx", "x.safetensors", "x.pt"])
def test_a_file_of_something_else_is_named(tiny_encoder, tmp_path, name):
    (tmp_path / name).write_bytes(b"something else" * 100)
    with pytest.raises(EncoderError, match=f"encoder.weights=.*{name}: not readable as weights"):
        check_files(encoder(tiny_encoder, weights=str(tmp_path / name)))


@pytest.mark.parametrize("content", ["[]", "{}", '{"vision_cfg": 3}', "no json"])
def test_a_model_config_of_something_else_is_named(tiny_encoder, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(EncoderError, match=r"config.json: no open_clip model config"):
        check_files(encoder(tiny_encoder, architecture=str(tmp_path / "config.json")))
