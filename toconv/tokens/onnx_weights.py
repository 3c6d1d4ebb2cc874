"""The embedded encoder's weights: an ONNX graph of a DINOv2-style ViT-S/14 → timm's state dict."""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from toconv.errors import EncoderError

LAYER, PATCHES = "backbone.encoder.layer.", "backbone.embeddings.patch_embeddings.projection.weight"
EMBEDDINGS, SALIENCY = "/backbone/embeddings", "decoder."


def read_geometry(path: Path) -> tuple[int, int, int]:
    """How many blocks there are, their width, and the side of a patch in pixels; converts no number. Raises
    EncoderError where it is another graph."""
    shapes = {i.name: list(i.dims) for i in _graph(path).initializer}
    layers = [name.removeprefix(LAYER).split(".")[0] for name in shapes if name.startswith(LAYER)]
    blocks = {int(layer) for layer in layers if layer.isdecimal()}
    if not blocks or not shapes.get(PATCHES):
        raise EncoderError(f"{path}: not the ONNX graph that toconv knows: {LAYER}N and {PATCHES} are missing")
    return max(blocks) + 1, shapes[PATCHES][0], shapes[PATCHES][-1]


def read_timm_state(path: Path, grid_size: int) -> dict[str, torch.Tensor]:
    """timm's `vit_small_patch14_dinov2` state for a grid_size×grid_size grid. MatMul weights lie transposed in ONNX.
    The position table (37×37) is resized without antialias, as the graph itself does it: bicubic, half-pixel, a =
    -0.75."""
    graph = _graph(path)
    tensors = _tensors(path, {i.name: i for i in graph.initializer})
    inputs = {node.name: list(node.input) for node in graph.node}

    def matrix(node: str) -> torch.Tensor:
        return next(tensors[name] for name in inputs[f"{node}/MatMul"] if name in tensors).T.contiguous()

    try:
        class_position = tensors[inputs[f"{EMBEDDINGS}/Concat_6"][0]].reshape(1, 1, -1)
        table = tensors[inputs[f"{EMBEDDINGS}/Reshape_1"][0]]
        state = {
            "cls_token": tensors["backbone.embeddings.cls_token"],
            "patch_embed.proj.weight": tensors[PATCHES],
            "patch_embed.proj.bias": tensors["backbone.embeddings.patch_embeddings.projection.bias"],
            "pos_embed": torch.cat([class_position, resize_positions(table, grid_size)], dim=1),
            "norm.weight": tensors["backbone.layernorm.weight"],
            "norm.bias": tensors["backbone.layernorm.bias"],
        }
        layers = {name.split(".")[3] for name in tensors if name.startswith(LAYER)}
        for layer in layers:
            state |= _block(int(layer), tensors, matrix)
    except (KeyError, StopIteration, IndexError, ValueError, RuntimeError, TypeError) as error:
        raise EncoderError(f"{path}: not the ONNX graph that toconv knows: {error} is missing") from error
    return state


def read_saliency_state(path: Path) -> dict[str, torch.Tensor] | None:
    """The state of the graph's saliency decoder, its names without `decoder.`; None where it has none."""
    found = {i.name: i for i in _graph(path).initializer if i.name.startswith(SALIENCY)}
    return {name.removeprefix(SALIENCY): tensor for name, tensor in _tensors(path, found).items()} or None


def _graph(path: Path) -> onnx.GraphProto:
    """Of this file alone: numbers that it says lie in other files are not looked for. Raises EncoderError."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        named = (name for node in graph.node for name in (node.name, *node.input))
        if not all(isinstance(name, str) for name in (*named, *(i.name for i in graph.initializer))):
            raise ValueError("names in another encoding than UTF-8")
        return graph
    except Exception as error:  # protobuf's own, which has no home here
        raise EncoderError(f"encoder.weights={path}: not readable as weights ({type(error).__name__})") from error


def _tensors(path: Path, found: Mapping[str, onnx.TensorProto]) -> dict[str, torch.Tensor]:
    try:
        return {name: torch.from_numpy(numpy_helper.to_array(i).copy()) for name, i in found.items()}
    except Exception as error:  # of onnx: shapes and types that no numbers have
        raise EncoderError(f"{path}: not the ONNX graph that toconv knows: {type(error).__name__}") from error


def _block(
    layer: int, tensors: dict[str, torch.Tensor], matrix: Callable[[str], torch.Tensor]
) -> dict[str, torch.Tensor]:
    ours, theirs, node = f"blocks.{layer}", f"backbone.encoder.layer.{layer}", f"/backbone/encoder/layer.{layer}"
    qkv = ("query", "key", "value")
    state = {
        f"{ours}.attn.qkv.weight": torch.cat([matrix(f"{node}/attention/attention/{p}") for p in qkv]),
        f"{ours}.attn.qkv.bias": torch.cat([tensors[f"{theirs}.attention.attention.{p}.bias"] for p in qkv]),
        f"{ours}.attn.proj.weight": matrix(f"{node}/attention/output/dense"),
        f"{ours}.attn.proj.bias": tensors[f"{theirs}.attention.output.dense.bias"],
        f"{ours}.ls1.gamma": tensors[f"{theirs}.layer_scale1.lambda1"],
        f"{ours}.ls2.gamma": tensors[f"{theirs}.layer_scale2.lambda1"],
    }
    for part in ("fc1", "fc2"):
        state[f"{ours}.mlp.{part}.weight"] = matrix(f"{node}/mlp/{part}")
        state[f"{ours}.mlp.{part}.bias"] = tensors[f"{theirs}.mlp.{part}.bias"]
    for norm in ("norm1", "norm2"):
        for part in ("weight", "bias"):
            state[f"{ours}.{norm}.{part}"] = tensors[f"{theirs}.{norm}.{part}"]
    return state


def resize_positions(table: torch.Tensor, grid_size: int) -> torch.Tensor:
    """A square position table of any leading shape → (1, grid_size², C)."""
    channels = table.shape[-1]
    square = table.reshape(1, int((table.numel() // channels) ** 0.5), -1, channels).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        square, size=(grid_size, grid_size), mode="bicubic", align_corners=False, antialias=False
    )
    return resized.permute(0, 2, 3, 1).reshape(1, grid_size**2, channels)
