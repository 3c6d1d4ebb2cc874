"""The structure: no import cycle, and one module for each outside library."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "toconv"
HOME = {"hydra": {"config"}, "omegaconf": {"config"}, "open_clip": {"tokens.encoder"}, "optuna": {"sweep.search"},
        "mlflow": {"sweep.tracking"}, "wandb": {"sweep.tracking"}, "ray": {"sweep.run"},
        "onnx": {"tokens.onnx_weights"}}


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


def test_no_module_imports_itself_through_others():
    known = modules()
    graph = {name: {m.removeprefix("toconv.") for m in imports(path, top_level_only=True)
                    if m.startswith("toconv.")} & set(known) - {name} for name, path in known.items()}

    def reaches(start, target, seen):
        return any(n == target or (n not in seen and reaches(n, target, seen | {n})) for n in graph[start])

    assert [name for name in graph if reaches(name, name, set())] == []
