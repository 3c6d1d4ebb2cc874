"""docs/files.md: every file in one line. `python docs/draw_layers.py` writes it.

A module's line is the first sentence of its docstring, so that it stands once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture import LAYERS, PACKAGE

PAGE = Path(__file__).with_name("files.md")
COLUMN = 26  # where what a file is begins
HEAD = """\
# Files

Written by `python docs/draw_layers.py`: a module's line is the first sentence of its docstring.
[How toconv is built](architecture.md) has the layers, the way of a picture and of a trial, and a recipe for each
kind of extension.

```
"""
BEFORE = {
    "run_sweep.py, train.py": "the first two commands, thin",
    "conf/": "config.yaml and the groups encoder/ and data/: every setting with its default",
    "sweeps/": "one YAML a sweep; docs/sweep_file.md says what each asks",
}
AFTER = {
    "tests/": "mirrors toconv/",
    "examples/": "evaluations of a user's own: a LLaVA of random weights, lmms-eval",
    "benchmarks/": "side-by-side measurements, `make bench`; gpu/ is `python -m benchmarks gpu`",
    "deploy/": "files that start a cluster or MLflow's server; docs/cluster.md lists them",
    "docs/": "these pages; conf.py makes a site of them, draw_layers.py and screenshots.py draw, scale.py computes",
}


def first_sentence(path: Path) -> str:
    """Of a module's docstring, on one line and without its full stop."""
    paragraph = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].removesuffix(".")


def line(name: str, said: str, depth: int = 0) -> str:
    return f"{'  ' * depth + name:<{COLUMN - 1}} {said}".rstrip()


def lines_of(folder: Path, depth: int) -> Iterator[str]:
    """Its modules, then its folders, layers in their order."""
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py" or depth == 1:
            yield line(path.name, first_sentence(path), depth)
    below = {path.parent.name: path.parent for path in sorted(folder.glob("*/__init__.py"))}
    for name in sorted(below, key=lambda name: LAYERS.index(name) if name in LAYERS else len(LAYERS)):
        yield line(f"{name}/", first_sentence(below[name] / "__init__.py"), depth)
        yield from lines_of(below[name], depth + 1)


def listed() -> str:
    """The page."""
    lines = [*(line(*about) for about in BEFORE.items()), f"{PACKAGE.name}/"]
    lines += [*lines_of(PACKAGE, 1), *(line(*about) for about in AFTER.items())]
    return HEAD + "\n".join(lines) + "\n```\n"
