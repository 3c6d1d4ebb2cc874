"""A hash of what code computes: neither comments nor docstrings, annotations or formatting change it.

Annotations count only as far as a dataclass reads them: that a class has a field, and of which kind. Code that reads
more of its annotations while it runs would need another hash."""

import ast
import hashlib
from functools import cache
from typing import Any

from toconv.paths import PACKAGE

FOR_TYPES = {"__future__", "typing", "collections.abc"}  # modules that are imported for annotations
FIELD_KINDS = ("ClassVar", "InitVar", "KW_ONLY")  # in the annotation of a field
UNTOLD = {"ctx", "kind", "type_comment", "type_params"}  # fields of a node that follow from others or change nothing


@cache
def code_version(names: tuple[str, ...]) -> str:
    """Of modules of toconv, by their paths below the package. 12 hex digits, the same on every version of Python."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{meaning((PACKAGE / name).read_text(encoding='utf-8'))}\0".encode())
    return digest.hexdigest()[:12]


def within(folder: str, *names: str) -> tuple[str, ...]:
    """Modules of one folder, as `code_version` takes them."""
    return tuple(f"{folder}/{name}.py" for name in names)


def meaning(source: str) -> str:
    """The syntax tree of a module as text, without what is read by people and type checkers alone."""
    return _text(_Meaning().visit(ast.parse(source)))


class _Meaning(ast.NodeTransformer):
    """Takes out of a tree what changes nothing when it runs."""

    def __init__(self) -> None:
        self._fields = False  # whether what is annotated at hand is a field of a class
        self._casts: set[str] = set()  # names of typing.cast

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Of torch's modules only those that are decorated can have fields."""
        module = any(_last_name(base) == "Module" for base in node.bases)
        return self._within(node, fields=bool(node.decorator_list) or not module)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._within(node, fields=False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _within(self, node: ast.AST, fields: bool) -> ast.AST:
        before, self._fields = self._fields, fields
        self.generic_visit(node)
        self._fields = before
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if not self._fields:
            return self.visit(ast.Assign([node.target], node.value)) if node.value else None
        told = ast.unparse(node.annotation)
        kinds = ast.Tuple([ast.Name(kind) for kind in FIELD_KINDS if kind in told])
        value = self.visit(node.value) if node.value else None
        return ast.AnnAssign(node.target, kinds, value, node.simple)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Docstrings, and the dots of a function without a body."""
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.level or node.module not in FOR_TYPES:
            return node
        self._casts |= {alias.asname or alias.name for alias in node.names if alias.name == "cast"}
        return None

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _last_name(node.test) == "TYPE_CHECKING" else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Python 3.12 puts an empty text behind a format that ends with a value, {x:>{width}}."""
        self.generic_visit(node)
        node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_cast = isinstance(node.func, ast.Name) and node.func.id in self._casts and len(node.args) == 2
        return node.args[1] if is_cast else node


def _last_name(node: ast.AST) -> str | None:
    """`Module` of nn.Module, and of Module."""
    return getattr(node, "attr", getattr(node, "id", None))


def _text(node: Any) -> str:
    """Only what is there, in ASCII: versions of Python differ in the fields that they leave empty, and in the letters
    that `repr` shows."""
    if isinstance(node, list):
        return f"[{''.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if name not in UNTOLD)
    told = (f" {name}={_text(value)}" for name, value in fields if value is not None and value != [])
    return f"({type(node).__name__}{''.join(told)})"
