"""The structure: no import cycle, and one module for each outside library (two for Ray: its cluster, and Tune)."""

import ast
from pathlib import Path

from toconv.identity import TRAINING_CODE

PACKAGE = Path(__file__).parent.parent / "toconv"
HOME = {"hydra": {"config"}, "omegaconf": {"config"}, "open_clip": {"tokens.encoder"}, "optuna": {"sweep.search"},
        "mlflow": {"sweep.tracking"}, "wandb": {"sweep.wandb_runs"}, "ray": {"sweep.cluster", "sweep.run"},
        "onnx": {"tokens.onnx_weights"}, "psutil": {"machine"}, "pynvml": {"machine"},
        "transformers": {"llava"}, "huggingface_hub": {"module"}, "onnxruntime": {"portable"}}


def modules():
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
            for path in PACKAGE.rglob("*.py")}


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_each_outside_library_has_one_home():
    found = {library: set() for library in HOME}
    for name, path in modules().items():
        for imported in imports(path):
            library = imported.split(".")[0]
            if library in HOME:
                found[library].add(name)
    assert found == HOME


def graph():
    known = modules()
    return {name: {m.removeprefix("toconv.") for m in imports(path, top_level_only=True)
                   if m.startswith("toconv.")} & set(known) - {name} for name, path in known.items()}


def test_no_module_imports_itself_through_others():
    edges = graph()

    def reaches(start, target, seen):
        return any(n == target or (n not in seen and reaches(n, target, seen | {n})) for n in edges[start])

    assert [name for name in edges if reaches(name, name, set())] == []


EXEMPT = {"settings", "hardware", "errors", "paths", "progress", "identity", "checkpoint", "tokens.store",
          "tokens.onnx_weights"}


def test_the_code_version_covers_every_module_that_a_training_uses():
    """Settings and precision are in a trial's identity themselves, and tokens by their fingerprint."""
    edges, used, waiting = graph(), set(), ["training"]
    while waiting:
        name = waiting.pop()
        if name not in used and name not in EXEMPT:
            used.add(name)
            waiting += edges[name]
    assert {name.removesuffix(".py").replace("/", ".") for name in TRAINING_CODE} == used
