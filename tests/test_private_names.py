"""Private names of other libraries that toconv and its benchmarks use: the one table, and what finds a new one.

An upgrade may take any of them away without a word; the test of that name says so then.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import unwrap
from pathlib import Path

import pytest
import torch

from tests.repository import REPOSITORY

PRIVATE = re.compile(r"_(?!_)\w+")
DOCUMENTED = {"_exit"}  # os._exit, in spite of its name


@dataclass(frozen=True)
class PrivateName:
    name: str  # library and dotted name
    used_in: str  # file
    why: str
    check: Callable[[str], None]  # raises where it is not there, or not what it was

    @property
    def words(self) -> set[str]:
        """As `private_names` finds them."""
        if self.name.startswith("torch.ops.") or self.name.endswith(".__wrapped__"):
            return {self.name}
        return {part for part in self.name.split(".") if PRIVATE.fullmatch(part)}


def open_clips_pooling(name: str) -> None:
    from open_clip.transformer import VisionTransformer

    sizes = {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1, "heads": 2, "mlp_ratio": 2, "output_dim": 4}
    pooled_BC, tokens_BNC = VisionTransformer(**sizes)._pool(torch.zeros(3, 5, 16))
    assert pooled_BC.shape == (3, 16) and tokens_BNC.shape == (3, 4, 16)


def rays_node(name: str) -> None:
    import ray
    from ray._private.node import Node

    assert ray._private.worker._global_node is None or ray.is_initialized()
    assert isinstance(Node.gcs_address, property) and isinstance(Node.raylet_socket_name, property)


def rays_accelerator(name: str) -> None:
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    manager, count = ResourceAndLabelSpec._get_current_node_accelerator(None, {})
    assert manager.get_current_node_accelerator_type() if count else count == 0


def tunes_reuse(name: str) -> None:
    from ray.tune.execution.tune_controller import TuneController

    assert "_reuse_actors" in unwrap(TuneController._maybe_cache_trial_actor).__code__.co_names


def optunas_hypervolume(name: str) -> None:
    import numpy as np
    from optuna._hypervolume import compute_hypervolume

    points, reference = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([2.0, 2.0])
    assert compute_hypervolume(points, reference) == 3.0


def optunas_storage(name: str) -> None:
    import optuna

    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, "reason", "none")
    study._storage.set_trial_state_values(study.trials[0]._trial_id, optuna.trial.TrialState.COMPLETE, [2.0])
    assert (study.trials[0].user_attrs, study.trials[0].value) == ({"reason": "none"}, 2.0)


def transformers_name(name: str) -> None:
    from transformers import CLIPVisionConfig

    assert CLIPVisionConfig(name_or_path="openai/some")._name_or_path == "openai/some"


def transformers_hook(name: str) -> None:
    from transformers import PreTrainedModel

    assert hasattr(PreTrainedModel, name.rpartition(".")[2])


def hubs_hook(name: str) -> None:
    from huggingface_hub import PyTorchModelHubMixin

    class Model(torch.nn.Module, PyTorchModelHubMixin):
        def _save_pretrained(self, save_directory: Path) -> None:
            raise InterruptedError(save_directory)

    with pytest.raises(InterruptedError):
        Model().save_pretrained("/tmp")


def torchs_wrapper(name: str) -> None:
    """`unwrap` gives what it is given where there is no wrapper."""
    function = getattr(getattr(torch.optim, name.split(".")[2]), name.split(".")[3])
    assert unwrap(function) is not function and unwrap(function).__name__ == function.__name__


def torchs_operator(name: str) -> None:
    assert getattr(torch.ops.aten, name.rpartition(".")[2]).overloads()


def torchs_layer_norm(name: str) -> None:
    aten, x, weight = torch.ops.aten, torch.randn(4, 3), torch.randn(3)
    y, mean, rstd = aten.native_layer_norm(x, [3], weight, weight, 1e-5)
    found = aten.native_layer_norm_backward(y, x, [3], mean, rstd, weight, weight, [True] * 3)
    assert [of.shape for of in (y, mean, rstd, *found)] == [(4, 3), (4, 1), (4, 1), (4, 3), (3,), (3,)]


def rays_token(name: str) -> None:
    from ray._raylet import AuthenticationTokenLoader

    AuthenticationTokenLoader.instance().reset_cache()


def torchs_silu(name: str) -> None:
    x = torch.randn(5, requires_grad=True)
    (expected,) = torch.autograd.grad(torch.nn.functional.silu(x).sum(), x)
    torch.testing.assert_close(torch.ops.aten.silu_backward(torch.ones(5), x.detach()), expected)


def torchs_dispatch_mode(name: str) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            operators.append(func.overloadpacket)
            return func(*args, **(kwargs or {}))

    operators = []
    with Seen():
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert torch.ops.aten.mm in operators


def torchs_fallback(name: str) -> None:
    """A network that does not compile runs as it is."""

    def refuse(graph: object, inputs: object) -> None:
        raise RuntimeError("no compiler here")

    with torch._dynamo.config.patch(suppress_errors=True):
        assert torch.compile(lambda x: x + 1, backend=refuse)(torch.zeros(1)).item() == 1


ENCODERS, KERNEL, OPTIMIZERS = "tokens/encoders.py", "models/kernels/norm_silu.py", "training/optimizers.py"
LLAVA, BENCH = "integrations/llava.py", "benchmarks/products.py"
SUPPORTS = "a kind of attention that the compressed tower leaves to the encoder in it"
UNWRAPPED = "without its wrapper, whose first call imports torch._dynamo: a second before a worker's first step"
FLOPS = "a matrix product, by which the benchmark counts what a step computes"
TABLE = [
    PrivateName(
        "open_clip.transformer.VisionTransformer._pool",
        ENCODERS,
        "the embedding of tokens that come out of the last blocks, as the encoder itself pools them",
        open_clips_pooling,
    ),
    PrivateName(
        "ray._private.worker._global_node",
        "sweep/cluster.py",
        "the addresses of Ray's processes on this machine, to see whether one is gone: Ray's own calls hang then",
        rays_node,
    ),
    PrivateName(
        "ray._private.resource_and_label_spec.ResourceAndLabelSpec._get_current_node_accelerator",
        "sweep/cluster.py",
        "a dry run tells the kind of this machine's GPUs in Ray's words, without starting Ray",
        rays_accelerator,
    ),
    PrivateName(
        "ray._raylet.AuthenticationTokenLoader",
        "sweep/cluster.py",
        "each cluster of our own has a token of its own: Ray keeps the first that it read in a process",
        rays_token,
    ),
    PrivateName(
        "ray.tune.execution.tune_controller.TuneController._reuse_actors",
        "sweep/tune/scheduler.py",
        "while a node is drained no worker is kept for the next trial; Tune's own switch is read once, at the start",
        tunes_reuse,
    ),
    PrivateName(
        "optuna._hypervolume.compute_hypervolume",
        "sweep/search/hypervolume.py",
        "the hypervolume as Optuna draws it (plot_hypervolume_history), without plotly and of trials as we choose them",
        optunas_hypervolume,
    ),
    PrivateName(
        "optuna.Study._storage",
        "sweep/search/studies.py",
        "a trial's end is written by its number, after a restart too; Study.tell takes trials of this process alone",
        optunas_storage,
    ),
    PrivateName("optuna.trial.FrozenTrial._trial_id", "sweep/search/studies.py", "as Study._storage", optunas_storage),
    PrivateName(
        "transformers.PreTrainedConfig._name_or_path",
        "integrations/vision_tower.py",
        "where a vision model's weights came from, to compare them with the compressor's",
        transformers_name,
    ),
    PrivateName("transformers.PreTrainedModel._supports_sdpa", LLAVA, SUPPORTS, transformers_hook),
    PrivateName("transformers.PreTrainedModel._supports_flash_attn", LLAVA, SUPPORTS, transformers_hook),
    PrivateName("transformers.PreTrainedModel._supports_attention_backend", LLAVA, SUPPORTS, transformers_hook),
    PrivateName(
        "transformers.PreTrainedModel._init_weights",
        LLAVA,
        "overridden: encoder and compressor come with their weights",
        transformers_hook,
    ),
    PrivateName(
        "huggingface_hub.PyTorchModelHubMixin._save_pretrained",
        "export/module.py",
        "overridden, as its documentation asks: writes weights and config of a compressor",
        hubs_hook,
    ),
    *(
        PrivateName(f"torch.optim.{method}.__wrapped__", OPTIMIZERS, UNWRAPPED, torchs_wrapper)
        for method in (
            "Optimizer.add_param_group",
            "Optimizer.load_state_dict",
            "Optimizer.state_dict",
            "Optimizer.zero_grad",
            "Adam.step",
            "AdamW.step",
        )
    ),
    PrivateName(
        "torch.ops.aten.native_layer_norm", KERNEL, "gives mean and rstd, which its gradient takes", torchs_layer_norm
    ),
    PrivateName(
        "torch.ops.aten.native_layer_norm_backward", KERNEL, "a step of the hand-written gradient", torchs_layer_norm
    ),
    PrivateName(
        "torch._dynamo.config.suppress_errors",
        "training/loop.py",
        "documented; where compiling is our choice, a network that does not compile runs as it is",
        torchs_fallback,
    ),
    PrivateName("torch.ops.aten.silu_backward", KERNEL, "a step of the hand-written gradient", torchs_silu),
    PrivateName(
        "torch.utils._python_dispatch.TorchDispatchMode", BENCH, "sees each operator of a step", torchs_dispatch_mode
    ),
    *(
        PrivateName(f"torch.ops.aten.{name}", BENCH, FLOPS, torchs_operator)
        for name in ("mm", "addmm", "bmm", "convolution", "convolution_backward")
    ),
]


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_a_private_name_is_what_it_was(entry):
    entry.check(entry.name)


def test_the_table_names_every_private_name_that_the_code_uses_and_no_other():
    assert used_by_the_code() == {(entry.used_in, word) for entry in TABLE for word in entry.words}
    assert len({(entry.name, entry.used_in) for entry in TABLE}) == len(TABLE) and all(entry.why for entry in TABLE)


# ----------------------------------------------------------------------------------------------- the scan


def used_by_the_code() -> set[tuple[str, str]]:
    files = {}
    for folder, below in ((REPOSITORY / "toconv", REPOSITORY / "toconv"), (REPOSITORY / "benchmarks", REPOSITORY)):
        files |= {str(path.relative_to(below)): ast.parse(path.read_text()) for path in folder.rglob("*.py")}
    own = {name for tree in files.values() for name in defined(tree)}
    return {(file, word) for file, tree in files.items() for word in private_names(tree, own)}


def defined(tree: ast.AST) -> Iterator[str]:
    """Names and attributes that a module makes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            yield from (text for text in (getattr(node, "attr", None), getattr(node, "id", None)) if text)


def private_names(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """What of others a module reads, imports, unwraps and overrides. `own` are names that the package makes, which an
    object has of itself; of another object only its own class's methods are."""
    unread = {id(child) for node in ast.walk(tree) for child in _annotations(node)}
    methods = {id(node): _methods(of) for of in _classes(tree) for node in ast.walk(of)}
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Attribute):
            of_itself = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            if node.attr not in (own if of_itself else methods.get(id(node), set())):
                yield from _private(node.attr)
            if ast.unparse(node.value) in {"aten", "torch.ops.aten"}:
                yield f"torch.ops.aten.{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [*(alias.name for alias in node.names), getattr(node, "module", None) or ""]
            yield from (word for name in names for part in name.split(".") for word in _private(part))
        elif isinstance(node, ast.Call):
            yield from _called(node, own)
    yield from _hooks(tree)


def _private(word: str) -> list[str]:
    return [word] if PRIVATE.fullmatch(word) and word not in DOCUMENTED else []


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """Nobody evaluates them."""
    for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        if annotation is not None:
            yield from ast.walk(annotation)


def _called(node: ast.Call, own: set[str]) -> Iterator[str]:
    """By `unwrap(function)` and by `getattr(thing, "_name")`."""
    function = ast.unparse(node.func).rpartition(".")[2]
    if function == "unwrap":
        yield f"{ast.unparse(node.args[0])}.__wrapped__"
    elif function in {"getattr", "hasattr", "setattr"} and isinstance(node.args[1], ast.Constant):
        yield from (word for word in _private(node.args[1].value) if word not in own)


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def _methods(of: ast.ClassDef) -> set[str]:
    return {node.name for node in of.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _hooks(tree: ast.Module) -> Iterator[str]:
    """Private names that a class with bases has and that its module reads nowhere: what another library looks for. A
    decorator, such as pydantic's, hands a method over by itself."""
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    for of in _classes(tree):
        if of.bases:
            for name in {name for statement in of.body for name in _bound(statement)} - read:
                yield from _private(name)


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        handed_over = {ast.unparse(by) for by in statement.decorator_list} - {"classmethod", "staticmethod", "property"}
        return set() if handed_over else {statement.name}
    return {node.id for node in ast.walk(statement) if isinstance(getattr(node, "ctx", None), ast.Store)}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(study):\n    return study._storage", {"_storage"}),
        ("class A:\n    def f(self, study):\n        self._storage = study._storage", {"_storage"}),
        ("class A:\n    def f(self):\n        return self._theirs", {"_theirs"}),
        ("class A:\n    def f(self):\n        self._ours = 1\n        return self._ours", set()),
        ("class A:\n    def f(cls):\n        cls()._g()\n    def _g(self): ...", set()),
        ("class A:\n    def _g(self): ...\ndef f(a):\n    return a._g()", {"_g"}),
        ("import ray\nray._private.worker._global_node", {"_private", "_global_node"}),
        ("from torch.utils._python_dispatch import Mode", {"_python_dispatch"}),
        ("from torch import _dynamo as d", {"_dynamo"}),
        ("import torch._dynamo", {"_dynamo"}),
        ("def f(x):\n    return getattr(x, '_name', 1)", {"_name"}),
        ("def f(x: hashlib._Hash) -> a._B:\n    y: c._D = 1", set()),
        ("x.__dict__, x._asdict, os._exit(1)", {"_asdict"}),
        ("from inspect import unwrap\nunwrap(torch.optim.SGD.step)", {"torch.optim.SGD.step.__wrapped__"}),
        ("aten = torch.ops.aten\naten.mm(1)", {"torch.ops.aten.mm"}),
        ("torch.ops.aten.mm(1)", {"torch.ops.aten.mm"}),
        ("class A(Base):\n    _flag = _other = True\n    def _hook(self): ...", {"_flag", "_other", "_hook"}),
        ("class A(Base):\n    @classmethod\n    def _hook(cls): ...", {"_hook"}),
        ("class A(Base):\n    @validator('a')\n    @classmethod\n    def _hook(cls): ...", set()),
        ("class A(Base):\n    def f(self):\n        self._g()\n    def _g(self): ...", set()),
        ("class A:\n    def _g(self): ...", set()),
    ],
)
def test_the_scan_finds_what_belongs_to_others(source, found):
    tree = ast.parse(source)
    assert set(private_names(tree, set(defined(tree)))) == found
