"""What changes a code's version and what does not, on each version of Python."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.repository import REPOSITORY
from toconv import code_version as module
from toconv.code_version import code_version, meaning
from toconv.paths import PACKAGE
from toconv.training.identity import TRAINING_CODE

BASE = '''
"""A module."""

from collections import deque

RATE = 0.5


class Loss(Base):
    """A loss."""

    scale = 2

    @property
    def name(self):
        """Its name."""
        return "loss"

    def total(self, x, *rest, y=1, **more):
        """The total."""
        kept = [x, y]
        kept.append(more)
        if x > y:
            return x * y
        return f"{x:>{y}} of {rest}"


async def later(x):
    """Later."""
    await x(1)
'''

SAME = {
    "a comment": ("    scale = 2\n", "    # twice\n    scale = 2  # see the paper\n"),
    "a module's docstring changed": ('"""A module."""', '"""A module of losses.\n\nLong.\n"""'),
    "a module's docstring removed": ('"""A module."""\n', ""),
    "a class's docstring changed": ('"""A loss."""', '"""The loss."""'),
    "a class's docstring removed": ('    """A loss."""\n', ""),
    "a function's docstring changed": ('"""The total."""', "'The sum.'"),
    "a function's docstring removed": ('        """The total."""\n', ""),
    "an async function's docstring changed": ('"""Later."""', '"""Much later."""'),
    "an async function's docstring removed": ('    """Later."""\n', ""),
    "a text that stands by itself": ("RATE = 0.5\n", 'RATE = 0.5\n"""Of the paper."""\n'),
    "pass": ("    scale = 2\n", "    pass\n    scale = 2\n"),
    "line breaks": ("kept = [x, y]", "kept = [\n            x,\n            y,\n        ]"),
    "blank lines": ("    scale = 2\n", "\n\n    scale = 2\n\n\n"),
    "spaces": ("return x * y", "return x*y"),
    "parentheses": ("if x > y:", "if (x > y):"),
    "quotes": ('"loss"', "'loss'"),
    "a prefix u": ('"loss"', 'u"loss"'),
    "a text in two halves": ('"loss"', '("lo" "ss")'),
    "digits": ("RATE = 0.5", "RATE = 5e-1"),
    "an argument's annotation": ("x, *rest, y=1, **more", "x: float, *rest: int, y: 'int' = 1, **more: Any"),
    "a return's annotation": ("def name(self):", "def name(self) -> str:"),
    "an async return's annotation": ("async def later(x):", "async def later(x: Call) -> None:"),
    "a variable's annotation": ("RATE = 0.5", "RATE: float = 0.5"),
    "a local variable's annotation": ("kept = [x, y]", "kept: list[float] = [x, y]"),
    "a variable announced": ("        kept = [x, y]", "        kept: list[float]\n        kept = [x, y]"),
    "from __future__": ("from coll", "from __future__ import annotations\n\nfrom coll"),
    "an import from typing": ("from coll", "from typing import Any, Protocol\nfrom coll"),
    "an import from collections.abc": ("from coll", "from collections.abc import Iterator\nfrom coll"),
    "an import for types": (
        "RATE = ",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n    A = 1\nRATE = ",
    ),
    "an import for types, typing.": ("import deque\n", "import deque\nif typing.TYPE_CHECKING:\n    import torch\n"),
    "a cast": ("import deque\n\nRATE = 0.5", "import deque\nfrom typing import Any, cast\n\nRATE = cast(Any, 0.5)"),
}
OTHER = {
    "a number": ("RATE = 0.5", "RATE = 0.25"),
    "its type": ("scale = 2", "scale = 2.0"),
    "an operator": ("x * y", "x + y"),
    "a comparison": ("x > y", "x >= y"),
    "a name": ("return x * y", "return x * x"),
    "a function's name": ("def total", "def whole"),
    "an argument's name": ("later(x)", "later(z)"),
    "a default": ("y=1", "y=2"),
    "a default taken away": ("y=1", "y"),
    "the order of statements": ("kept = [x, y]\n        kept.append(more)", "kept.append(more)\n        kept = [x, y]"),
    "a decorator": ("@property", "@cached_property"),
    "a decorator removed": ("    @property\n", ""),
    "a statement removed": ("        kept.append(more)\n", ""),
    "a statement in another block": (
        "            return x * y\n        return f",
        "            pass\n        return f",
    ),
    "a text that is used": ('return "loss"', 'return "Loss"'),
    "a text that is assigned": ("RATE = 0.5", 'RATE = 0.5\nX = """Of the paper."""'),
    "an f-string's text": ("} of {", "} off {"),
    "an f-string's format": ("{x:>{y}}", "{x:<{y}}"),
    "an f-string's conversion": ("{rest}", "{rest!r}"),
    "an f-string in a text's place": ('"loss"', 'f"loss"'),
    "bytes in a text's place": ('"loss"', 'b"loss"'),
    "by keyword": ("await x(1)", "await x(y=1)"),
    "a star": ("await x(1)", "await x(*rest)"),
    "no longer awaited": ("await x(1)", "x(1)"),
    "a tuple in a list's place": ("[x, y]", "(x, y)"),
    "None in a number's place": ("RATE = 0.5", "RATE = None"),
    "True in a number's place": ("scale = 2", "scale = True"),
    "a base": ("class Loss(Base)", "class Loss(Other)"),
    "a field without a value": ("    scale = 2\n", "    scale = 2\n    width: int\n"),
    "a field with a value": ("    scale = 2\n", "    scale: int = 2\n"),
    "another import": ("from collections import deque", "from collections import Counter as deque"),
    "an import from a typing of one's own": ("from coll", "from .typing import Any\nfrom coll"),
    "what runs where types are not checked": (
        "RATE = 0.5",
        "if TYPE_CHECKING:\n    RATE = 0.5\nelse:\n    RATE = 0.75",
    ),
    "a cast of one's own": ("RATE = 0.5", "RATE = cast(Any, 0.5)"),
    "a cast's value": (
        "import deque\n\nRATE = 0.5",
        "import deque\nfrom typing import cast\n\nRATE = cast(float, 0.125)",
    ),
}


def changed(old, new):
    assert BASE.count(old) == 1
    return BASE.replace(old, new)


@pytest.mark.parametrize("change", SAME)
def test_what_people_and_type_checkers_read_changes_nothing(change):
    assert meaning(changed(*SAME[change])) == meaning(BASE)


@pytest.mark.parametrize("change", OTHER)
def test_what_runs_otherwise_is_another_code(change):
    assert meaning(changed(*OTHER[change])) != meaning(BASE)


def test_no_two_changes_are_the_same_code():
    every = [meaning(changed(*change)) for change in OTHER.values()]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    "body", ["pass", "...", '"""Does."""', '"""Does.\n\n    More."""\n    ...', '"""Does."""\n    pass']
)
def test_functions_that_do_nothing_are_the_same_however_they_say_so(body):
    assert meaning(f"@abstractmethod\ndef f(x):\n    {body}\n") == meaning("@abstractmethod\ndef f(x): pass")


def test_a_function_that_does_nothing_is_not_one_that_raises():
    assert meaning("def f(): ...") != meaning("def f():\n    raise NotImplementedError")


@pytest.mark.parametrize(
    ("annotation", "same"),
    [
        ("float", True),
        ("'int'", True),
        ("ClassVar[int]", False),
        ("'ClassVar[int]'", False),
        ("dataclasses.InitVar[int]", False),
    ],
)
def test_a_fields_annotation_counts_only_as_a_dataclass_reads_it(annotation, same):
    field = "@dataclass\nclass A:\n    a: int = 1\n    b: {} = 2\n"
    assert (meaning(field.format(annotation)) == meaning(field.format("int"))) is same


def test_what_a_module_of_torch_announces_for_type_checkers_is_no_field():
    module = "class A(nn.Module):\n    {}def f(self): ...\n"
    assert meaning(module.format("mean_C: torch.Tensor\n    ")) == meaning(module.format(""))
    assert meaning("@dataclass\n" + module.format("mean_C: torch.Tensor\n    ")) != meaning(
        "@dataclass\n" + module.format("")
    )


def test_a_class_in_a_function_and_a_function_in_a_class_keep_their_own_rule():
    assert meaning("def f():\n    class A:\n        a: int\n") != meaning("def f():\n    class A:\n        pass\n")
    assert meaning("class A:\n    def f():\n        a: int\n    b: int") == meaning(
        "class A:\n    def f(): ...\n    b: int"
    )


def test_a_branch_that_does_nothing_is_the_same_as_none():
    assert meaning("if a:\n    b()\nelse:\n    pass") == meaning("if a:\n    b()")
    assert meaning("if a():\n    pass") != meaning("")


# ------------------------------------------------------------------------------------------ versions of Python

SAMPLE = dedent("""
    import os, sys as system
    from . import near
    from .. import far as beyond
    from torch import *
    text, raw, many = "a\\N{DEGREE SIGN} \U0001fae8 × \\ud800", r"\\d", b"\\x00\\xff"
    numbers = (0x10, 1_000, 1e3, 1e-7, 0.1, 1e999, 3j, -0.0, 10**30, 123456789012345678901234567890, ..., None, True)
    shapes = {1, *numbers}, {"a": 1, **{}}, [*numbers, 2], (), [], {}
    first, *others = shapes
    x = y = others[0][1:2, ::3, ...]
    x += 1; x @= y; x //= ~-+x; x <<= not x
    z = a if b else c, a and b or c, a < b <= c != d is not e not in f
    walrus = [n := 1, n ** 2, lambda a, /, b=2, *c, d, e=5, **f: (yield)]
    told = f"{x}{y!r:>{z}}{x=}{{}}" "b" f'{x:%Y-%m-%d {y}}' f"{x:{y}}" f"" f"{'q'!s}"
    sets = {a for b in c if d if e for f in g}, {a: b for c, d in e}, (a async for b in c)
    del x, y[0], z.w
    assert x, "y"

    @decorator(1, *a, k=2, **b)
    class Generic(Base, metaclass=Meta):
        __slots__ = "a", "b"
        field: int
        other: list[int] = field(default_factory=list)
        kind: ClassVar[int] = 1

        async def f(self, a, /, b: int = 1, *, c, d=None, **e) -> None:
            global g
            async with a as b, c: await d
            async for i in j:
                continue
            else:
                return
            return (await a)[b]

    def outer():
        n = 0
        def inner():
            nonlocal n
            yield from n
        while True:
            break
        else:
            raise ValueError from None
        try:
            pass
        except (A, B) as error:
            raise
        except C:
            pass
        else:
            a
        finally:
            b

    def starred():
        try:
            a()
        except* ValueError:
            b()

    def matched(x):
        match x:
            case 1 | "a" | None | -1j: a
            case [a, *_] if a: b
            case {"k": v, **rest}: c
            case Point(0, y=0) as p: d
            case a.b: e
            case _: f
""")
FROZEN = "cd67664e99be3206"

TOLD = """
import hashlib, json, sys
from toconv.code_version import meaning
sources = json.load(sys.stdin)
print(json.dumps([hashlib.sha256(meaning(source).encode()).hexdigest() for source in sources]))
"""


def test_a_sample_of_the_language_has_the_hash_that_it_always_had():
    assert hashlib.sha256(meaning(SAMPLE).encode()).hexdigest()[:16] == FROZEN


def interpreter(version):
    """A Python of that version on this machine, None where there is none."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for found in filter(None, [shutil.which(f"python{version}"), *map(str, installed)]):
        if subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    return None


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_every_version_of_python_gives_the_same(version):
    found = interpreter(version)
    if found is None:
        pytest.skip(f"no Python {version} on this machine")
    sources = [SAMPLE, BASE, *(path.read_text() for path in sorted(PACKAGE.rglob("*.py")))]
    here = [hashlib.sha256(meaning(source).encode()).hexdigest() for source in sources]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        [found, "-c", TOLD], input=json.dumps(sources), env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout) == here


def test_the_files_are_read_the_same_under_another_locale():
    read = f"from toconv.code_version import code_version; print(code_version({TRAINING_CODE!r}))"
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", read], env=ascii_only, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == code_version(TRAINING_CODE)


# ------------------------------------------------------------------------------------------ files of the package


def test_a_version_is_of_the_files_names_and_what_they_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PACKAGE", tmp_path)

    def version(*names, **contents):
        code_version.cache_clear()
        for name, content in contents.items():
            (tmp_path / f"{name}.py").write_text(content)
        return code_version(tuple(f"{name}.py" for name in names))

    try:
        first = version("a", "b", a="x = 1", b="y = 2")
        assert len(first) == 12 and int(first, 16) >= 0
        assert version("a", "b", a="x: int = 1  # one") == first
        others = [
            version("a"),
            version("b", "a"),
            version("a", "b", b="y = 3"),
            version("a", "b", a="y = 3", b="x = 1"),
        ]
        assert len({first, *others}) == 5
    finally:
        code_version.cache_clear()
