"""Graphs of a compressor in other runtimes, against the module itself."""

import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch

from tests.compressors import compressor, small_encoder, tokens
from tests.repository import REPOSITORY
from toconv.errors import GraphDiffers
from toconv.export.graphs import OPSET, write_onnx, write_torch_export
from toconv.settings import COMPRESSORS

pytestmark = pytest.mark.slow

CASES = [  # of 24 a side: 5, 7, 9 and 16 do not divide it
    *((4, "pool"), (5, "pool"), (16, "pool"), (7, "pca"), (8, "pca"), (6, "linear"), (9, "linear"))
]


def of(k, init):
    return compressor(k, small_encoder(24), init)


def share(theirs, ours, made):
    return ((theirs - ours).abs() / (made.std_C.square() + made.mean_C.square()).sqrt()).max()


@pytest.mark.parametrize(("k", "init"), CASES)
def test_onnx_computes_what_the_module_computes_for_any_number_of_images(tmp_path, k, init):
    made, path = of(k, init), tmp_path / "model.onnx"
    assert write_onnx(made, path) <= 1e-4
    onnx.checker.check_model(path)
    assert [(o.domain, o.version) for o in onnx.load(path).opset_import] == [("", OPSET)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for images in (1, 2, 5):
        x = tokens(made, images)
        (z,) = session.run(["compressed"], {"tokens": x.numpy()})
        assert z.shape == (images, k * k, 8) and share(torch.from_numpy(z), made(x), made) < 1e-4


@pytest.mark.parametrize(("k", "init"), CASES)
def test_a_torch_export_computes_what_the_module_computes_for_any_number_of_images(tmp_path, k, init):
    made, path = of(k, init), tmp_path / "model.pt2"
    assert write_torch_export(made, path) <= 1e-4
    graph = torch.export.load(path).module()
    for images in (1, 2, 5):
        assert share(graph(tokens(made, images)), made(tokens(made, images)), made) < 1e-4


@pytest.mark.parametrize("family", [family for family in COMPRESSORS if family != "conv"])
def test_the_graphs_of_every_family_compute_what_the_module_computes(tmp_path, family):
    made = compressor(5, small_encoder(12), "linear", family=family)
    assert write_onnx(made, tmp_path / "model.onnx") <= 1e-4 and write_torch_export(made, tmp_path / "m.pt2") <= 1e-4


def test_the_graph_of_a_nested_compressor_is_of_the_k_that_it_gives_unasked(tmp_path):
    nested = {"kind": "nested", "init": "linear", "width": 8, "blocks": 1, "grid_sizes": [2, 3, 5]}
    made, path = compressor(3, small_encoder(12), compressor=nested), tmp_path / "model.pt2"
    assert write_torch_export(made, path) <= 1e-4
    assert torch.export.load(path).module()(tokens(made)).shape == (2, 9, 8)


@pytest.mark.parametrize("write", [write_onnx, write_torch_export])
def test_a_graph_that_differs_is_refused(tmp_path, write):
    class Drifting(torch.nn.Module):
        """A branch that computes something else at every second call: once traced, the graph holds one of both."""

        calls = 0

        def forward(self, x):
            self.calls += 1
            return x[:, :16] * (1 + 1e-3 * (self.calls % 2))

    made = of(4, "pool")
    made.compressor = Drifting()
    with pytest.raises(GraphDiffers, match="at most 0.0001"):
        write(made, tmp_path / "model")


@pytest.mark.parametrize("write", [write_onnx, write_torch_export])
def test_no_folder_of_this_machine_stands_in_a_graph(tmp_path, write):
    write(of(4, "pool"), tmp_path / "model")
    assert str(REPOSITORY).encode() not in (tmp_path / "model").read_bytes()


def test_missing_libraries_of_onnx_are_told_with_what_to_install():
    code = (
        "import importlib.util as u, sys\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'onnxscript' else find(name, *rest)\n"
        "from toconv.export.graphs import check_onnx_installed\ncheck_onnx_installed()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert (
        "RequestError: --onnx: needs onnxscript, which" in done.stderr and 'pip install "toconv[onnx]"' in done.stderr
    )
