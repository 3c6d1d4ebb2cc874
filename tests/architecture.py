"""The layers and the walls of toconv, and the reader of imports that finds what breaks them."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path

from tests.repository import REPOSITORY

PACKAGE = REPOSITORY / "toconv"
ROOT = "toconv"
LAYERS = (  # lowest first; "ground" are the modules beside the folders
    "ground",
    "models",
    "tokens",
    "evaluation",
    "training",
    "analysis",
    "tracking",
    "sweep",
    "export",
    "report",
    "integrations",
    "commands",
    "__main__",
)
VERSION = f"{ROOT}.__version__"  # of the root, whose `load` belongs to export; this number belongs to the ground
WALLS: dict[str, tuple[str, ...]] = {  # an outside library: the modules, and the folders with all in them, that know it
    "hydra": ("config",),
    "omegaconf": ("config",),
    "open_clip": ("encoder_catalogue", "tokens.encoder_models"),
    "timm": ("encoder_catalogue", "tokens.encoder_models"),
    "onnx": ("tokens.onnx_weights",),
    "torchvision": ("tokens.pixels",),
    "PIL": ("tokens.picture_decoder",),
    "optuna": ("sweep.search",),
    "mlflow": ("tracking.mlflow_runs",),
    "sqlalchemy": ("tracking.databases", "tracking.mlflow_runs", "sweep.search.database", "sweep.search.postgresql"),
    "wandb": ("tracking.wandb_runs",),
    "ray": ("sweep.cluster", "sweep.ray_client"),
    "ray.tune": ("sweep.tune",),
    "psutil": ("machine",),
    "pyarrow": ("object_store",),
    "pynvml": ("machine",),
    "transformers": ("integrations.hugging_face",),
    "huggingface_hub": ("export.module", "encoder_catalogue"),
    "onnxruntime": ("export.graphs",),
    "pandas": ("analysis.frames",),
    "scipy": ("analysis.seeds",),
    "sklearn": (),
    "matplotlib": ("report",),
    "starlette": ("report.serving",),
    "uvicorn": ("report.serving",),
    "rich": ("progress", "sweep.plan", "sweep.terminal"),
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Import:
    """`importer`, a module, takes `target`: a module, or a name in one."""

    importer: str
    target: str
    path: Path
    line: int
    for_types: bool  # under TYPE_CHECKING

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def modules(package: Path) -> dict[str, Path]:
    """{dotted name: file} of all of a package."""
    return {
        ".".join((package.name, *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(package.rglob("*.py"))
    }


@cache
def parsed(source: str) -> ast.Module:
    """A syntax tree, to be read only."""
    return ast.parse(source)


def imports(package: Path) -> list[Import]:
    """Every import: of a module, in a function, for type checkers, by `import_module` with a literal."""
    return [found for name, path in modules(package).items() for found in _imports_of(name, path)]


def _imports_of(name: str, path: Path) -> Iterator[Import]:
    tree = parsed(path.read_text())
    folder = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for_types = {id(node) for block in ast.walk(tree) for node in _for_types(block)}
    for node in ast.walk(tree):
        for target in _targets(node, folder):
            yield Import(name, target, path, node.lineno, id(node) in for_types)


def _for_types(block: ast.AST) -> Iterator[ast.AST]:
    """All within the block, where it is one of TYPE_CHECKING."""
    if isinstance(block, ast.If) and _last_name(block.test) == "TYPE_CHECKING":
        for statement in block.body:
            yield from ast.walk(statement)


def _targets(node: ast.AST, folder: str) -> Iterator[str]:
    """What a statement or a call imports, in a module of the package `folder`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = resolve_name("." * node.level + (node.module or ""), folder)
        yield from (module if alias.name == "*" else f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and _last_name(node.func) in {"import_module", "__import__"}:
        given = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
        if given and isinstance(given[0], ast.Constant):
            yield resolve_name(given[0].value, folder)


def _last_name(node: ast.AST) -> str | None:
    return getattr(node, "attr", getattr(node, "id", None))


def module_of(target: str, known: Collection[str]) -> str | None:
    """The module that holds `target`; None outside of the package."""
    while target and target not in known:
        target = target.rpartition(".")[0]
    return target or None


def layer_of(module: str, path: Path, package: Path) -> str | None:
    """None where it stands in a folder that is no layer."""
    first, *below = path.relative_to(package).parts
    if below:
        return first if first in LAYERS else None
    return {package.name: "export", f"{package.name}.__main__": "__main__"}.get(module, "ground")


def layers_of(package: Path) -> dict[str, str | None]:
    return {name: layer_of(name, path, package) for name, path in modules(package).items()}


def between_layers(package: Path) -> Iterator[tuple[Import, str, str]]:
    """Each import of the package's own, with the layers of its two ends."""
    layer = layers_of(package)
    for found in imports(package):
        module = module_of(found.target, layer)
        if module and layer[found.importer] and layer[module]:
            yield found, layer[found.importer], "ground" if found.target == VERSION else layer[module]


def arrows_back(package: Path) -> list[str]:
    """Imports from a layer above, of a command by whomever, and modules that stand in no layer."""
    lost = [name for name, layer in layers_of(package).items() if layer is None]
    return [f"{name}: in no layer" for name in lost] + [
        f"{found.place}: {found.importer} ({of}) imports {found.target} ({layer})"
        for found, of, layer in between_layers(package)
        if LAYERS.index(layer) > LAYERS.index(of) or layer == "commands"
    ]


def circles(package: Path) -> list[str]:
    """The shortest circle through each module that is in one."""
    known, edges = modules(package), {}
    for found in imports(package):
        module = module_of(found.target, known)
        if module and found.target != VERSION:
            edges.setdefault(found.importer, {}).setdefault(module, found)
    shortest = {frozenset(way): way for way in (_way_back(name, edges) for name in sorted(edges, reverse=True)) if way}
    return [
        f"circle: {' → '.join((*way, way[0]))} ({', '.join(edges[a][b].place for a, b in pairwise((*way, way[0])))})"
        for way in shortest.values()
    ]


def _way_back(start: str, edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The modules on the shortest way from a module to itself, () where there is none."""
    ways, seen = [(start,)], set()
    for way in ways:
        for module in sorted(edges.get(way[-1], ())):
            if module == start:
                return way
            if module not in seen:
                seen.add(module)
                ways.append((*way, module))
    return ()


def breaches(package: Path, walls: Mapping[str, tuple[str, ...]] = WALLS) -> list[str]:
    """Imports of a walled library outside its home."""
    found = []
    for imported in imports(package):
        library = module_of(imported.target, walls)
        if library and not any(_within(imported.importer, f"{package.name}.{home}") for home in walls[library]):
            homes = ", ".join(walls[library]) or "nobody"
            found.append(f"{imported.place}: {imported.importer} imports {imported.target}; {library} is for {homes}")
    return found


def _within(module: str, home: str) -> bool:
    return module == home or module.startswith(f"{home}.")


def idle_homes(package: Path, walls: Mapping[str, tuple[str, ...]] = WALLS) -> list[str]:
    """Homes of a library that do not import it, or are not there."""
    used = {(module_of(i.target, walls), i.importer) for i in imports(package)}
    return [
        f"{library}: {home} does not import it"
        for library, homes in walls.items()
        for home in homes
        if not any(of == library and _within(importer, f"{package.name}.{home}") for of, importer in used)
    ]


def unexplained(package: Path) -> list[str]:
    """Imports in functions whose block does not begin with a comment that says why they are not at the top."""
    found = []
    for path in modules(package).values():
        source = path.read_text()
        comments = _comments(source)
        found += [
            f"{path}:{first.lineno}: {ast.unparse(first)}"
            for first in _first_imports(parsed(source))
            if not any(
                re.search(r"\b(start-up|optional)\b", comments.get(line, ""))
                for line in range(first.lineno, first.end_lineno + 1)
            )
        ]
    return found


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _first_imports(tree: ast.Module) -> list[ast.stmt]:
    """Of each run of imports that stand one after the other in a function."""
    within = {
        id(node): node for function in ast.walk(tree) if isinstance(function, FUNCTIONS) for node in ast.walk(function)
    }
    firsts = []
    for node in within.values():
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            statements = [None, *block] if isinstance(block, list) else []
            firsts += [b for a, b in pairwise(statements) if isinstance(b, IMPORTS) and not isinstance(a, IMPORTS)]
    return sorted(firsts, key=lambda statement: statement.lineno)


def annotated_any(package: Path, names: Collection[str]) -> list[str]:
    """Parameters of these names that are annotated `Any`."""
    return [
        f"{path}:{argument.lineno}: {argument.arg}: {ast.unparse(argument.annotation)}"
        for path in modules(package).values()
        for argument in ast.walk(parsed(path.read_text()))
        if isinstance(argument, ast.arg)
        and argument.arg in names
        and argument.annotation
        and re.search(r"\bAny\b", ast.unparse(argument.annotation).partition("[")[0])
    ]


def named_objects(package: Path) -> list[tuple[str, str, str]]:
    """(where, module, name) of each text such as "toconv.models.decoder:ConvDecoder"."""
    return [
        (f"{path}:{node.lineno}", *node.value.split(":"))
        for path in modules(package).values()
        for node in ast.walk(parsed(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(rf"{package.name}(\.\w+)+:\w+", node.value)
    ]


def defined_in(path: Path) -> set[str]:
    """The classes and functions of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in parsed(path.read_text()).body if isinstance(node, kinds)}


def reached(package: Path, start: str, exempt: Collection[str], beside: Mapping[str, Collection[str]]) -> set[str]:
    """The modules that `start` runs, itself among them: through imports, and those `beside` a module that it finds by
    their names. What is exempt is not entered."""
    known, edges = modules(package), {}
    for found in imports(package):
        if not found.for_types:
            edges.setdefault(found.importer, set()).add(module_of(found.target, known))
    waiting, used = [start], set()
    while waiting:
        name = waiting.pop()
        if name and name not in used and name not in exempt:
            used.add(name)
            waiting += [*edges.get(name, ()), *beside.get(name, ())]
    return used
