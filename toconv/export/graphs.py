"""A compressor as a graph for other runtimes: ONNX, and torch.export's .pt2. The only module that knows onnxruntime.

Every graph is read back from its file and compared with the module before it may stay."""

# B images, N = g*g tokens of the encoder, C channels

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from toconv.errors import GraphDiffers, RequestError
from toconv.export.module import TokenCompressor

ONNX_FILE, EXPORT_FILE = "model.onnx", "model.pt2"
OPSET = 23  # of ONNX: the newest that this torch writes
TOLERANCE = 1e-4  # of a channel's root mean square
TRACED, COMPARED = 2, (1, 3)  # images at a time
NEEDED = ("onnxscript", "onnxruntime")


def check_onnx_installed() -> None:
    """Raises RequestError that names what is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        what = f"--onnx: needs {' and '.join(missing)}, which are not installed"
        raise RequestError(f'{what}; run: pip install "toconv[onnx]"')


def write_onnx(compressor: TokenCompressor, path: Path) -> float:
    """(B, N, C) `tokens` → (B, M, C) `compressed` for any B. Returns the largest difference that was found. Raises
    RequestError where ONNX's libraries are missing, GraphDiffers where the file computes something else."""
    check_onnx_installed()
    import onnxruntime  # optional

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced, given, made = _traced(compressor), ["tokens"], ["compressed"]
        program = torch.onnx.export(
            traced, dynamo=True, opset_version=OPSET, input_names=given, output_names=made, verbose=False
        )
    assert program is not None  # with dynamo=True
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return _compare(
        compressor, path, lambda x_BNC: torch.from_numpy(session.run(["compressed"], {"tokens": x_BNC.numpy()})[0])
    )


def write_torch_export(compressor: TokenCompressor, path: Path) -> float:
    """The same as a .pt2 file for `torch.export.load`. Read such files only from whom you trust: they may run code."""
    torch.export.save(_traced(compressor), path)
    return _compare(compressor, path, torch.export.load(path).module())


def random_tokens(compressor: TokenCompressor, images: int) -> torch.Tensor:
    """(B, N, C) with the mean and the spread that each channel has in training."""
    draw = torch.Generator().manual_seed(images)
    standard_BNC = torch.randn(images, compressor.grid_size**2, compressor.width, generator=draw)
    return standard_BNC * compressor.std_C + compressor.mean_C


def _traced(compressor: TokenCompressor) -> torch.export.ExportedProgram:
    """The graph for any number of images, without the lines of code that it came from: they name this machine's
    folders."""
    program = torch.export.export(
        compressor, (random_tokens(compressor, TRACED),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    for node in program.graph_module.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@torch.inference_mode()
def _compare(compressor: TokenCompressor, path: Path, graph: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The largest difference over batches of other sizes than the traced one, in shares of each channel's RMS."""
    rms_C = (compressor.mean_C.square() + compressor.std_C.square()).sqrt()
    worst = 0.0
    for images in COMPARED:
        x_BNC = random_tokens(compressor, images)
        difference = ((graph(x_BNC) - compressor(x_BNC)) / rms_C).abs().max().item()
        if not difference <= TOLERANCE:  # NaN too
            raise GraphDiffers(
                f"{path.name}: differs from the compressor by {difference:.2g} of a channel's root mean "
                f"square; at most {TOLERANCE:g} may be, so the file is not kept"
            )
        worst = max(worst, difference)
    return worst
