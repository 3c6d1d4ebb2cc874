"""YAML as people write it into a sweep file: read as it stands there, or refused.

PyYAML reads `1e-4` as a text and `2024-01-02` as a date, lets the last of two equal keys win, and follows aliases into
structures that nobody can walk. Here numbers are numbers, dates are text, keys are text and stand once, and what a file
stands for has at most MOST_VALUES values, DEEPEST levels deep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toconv.config import shown
from toconv.errors import RequestError, told
from toconv.plain_values import DEEPEST, LARGEST

LARGEST_FILE = 200_000  # bytes
MOST_VALUES = 20_000  # aliases counted as often as they stand for something
TAG = "tag:yaml.org,2002:"
TEXT, MERGE = f"{TAG}str", f"{TAG}merge"
PLAIN = {TEXT, MERGE, *(f"{TAG}{name}" for name in ("int", "float", "bool", "null", "seq", "map"))}
FOR_ANCHORS = "x-"  # how keys begin that hold parts for other places alone, as in compose files
WORDS = {"on"}  # keys that YAML takes for true, and that are words here
OF_SETTINGS = {"settings", "grid", "search"}  # sections whose keys are settings


@dataclass(frozen=True)
class Document:
    """A sweep file as it was read."""

    content: dict[str, Any]
    text: str
    typed: Mapping[tuple[str, str], str]  # how values stand there that YAML reads otherwise, as `config.check` takes it


def read_document(path: Path) -> Document:
    """The mapping in a YAML file. Raises RequestError where there is none."""
    try:
        if path.exists() and not path.is_file():
            raise RequestError(f"{path}: a sweep file must be a file, which this is not")
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise RequestError(f"{path}: is larger than a sweep file may be, {LARGEST_FILE} bytes")
        text = raw.decode("utf-8-sig")
        loader = _Loader(text)
        root = loader.get_single_node()
        content = loader.construct_document(root) if root else None
    except FileNotFoundError:
        raise RequestError(f"{path}: no such sweep file") from None
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise RequestError(f"{path}: not readable as YAML: {told(error)}") from None
    if root is None or not isinstance(content, dict):
        raise RequestError(f"{path}: a sweep file is a mapping of name, settings, grid, search, …")
    content = {key: value for key, value in content.items() if not str(key).startswith(FOR_ANCHORS)}
    return Document(content, text, dict(_typed(loader, root, ())))


class _Loader(yaml.SafeLoader):
    """Refuses, with the line, what PyYAML would read as something else, fail on or never end with."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._level = 0
        self._extent: dict[int, tuple[int, int]] = {}  # {id of a whole node: its values and its levels}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Raises YAMLError where a node lies too deep, stands for too much or within itself."""
        line, is_alias = self.peek_event().start_mark.line + 1, self.check_event(yaml.AliasEvent)
        self._level += 1
        if self._level > DEEPEST:
            raise yaml.YAMLError(f"line {line}: more than {DEEPEST} levels within each other")
        node = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(node, yaml.CollectionNode):
            if is_alias and id(node) not in self._extent:
                raise yaml.YAMLError(f"line {line}: an alias within what it stands for")
            if not is_alias:
                self._measure(node)
            self._check_extent(node, line)
        return node

    def _measure(self, node: yaml.CollectionNode) -> None:
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
        extents = [self._extent.get(id(part), (1, 1)) for part in _parts(node)]
        values, levels = sum(count for count, _ in extents), max((level for _, level in extents), default=0)
        self._extent[id(node)] = 1 + values, 1 + levels

    def _check_extent(self, node: yaml.CollectionNode, line: int) -> None:
        values, levels = self._extent[id(node)]
        if values > MOST_VALUES:
            raise yaml.YAMLError(f"line {line}: stands for more than {MOST_VALUES} values")
        if levels + self._level > DEEPEST:
            raise yaml.YAMLError(f"line {line}: more than {DEEPEST} levels within each other")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        where = f"line {node.start_mark.line + 1}: {shown(node.value) if isinstance(node, yaml.ScalarNode) else 'this'}"
        if node.tag not in PLAIN:
            raise yaml.YAMLError(
                f"{where}: {node.tag} is not known here, where text, numbers, true, false, null, lists and mappings are"
            )
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError) as error:  # of a tag that was written out, and of 5000 digits
            raise yaml.YAMLError(f"{where}: is no {node.tag.removeprefix(TAG)} that can be read") from error
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise yaml.YAMLError(f"{where}: whole numbers are below {LARGEST}")
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in PLAIN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{TAG}float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _parts(node: yaml.CollectionNode) -> list[yaml.Node]:
    """The nodes right below a list or a mapping, keys included."""
    return [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]


def _check_keys(node: yaml.MappingNode) -> None:
    """Raises YAMLError where a key is no text, or stands twice."""
    seen = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.YAMLError(f"line {line}: a key must be text, not a list or a mapping")
        if key.tag == MERGE:
            continue
        if key.value in WORDS:
            key.tag = TEXT
        if key.tag != TEXT:
            raise yaml.YAMLError(
                f'line {line}: the key {shown(key.value)} must be text, which it is in quotes: "{shown(key.value)}"'
            )
        if key.value in seen:
            raise yaml.YAMLError(f"line {line}: key {shown(key.value)!r} is given twice")
        seen.add(key.value)


def _typed(loader: _Loader, node: yaml.Node, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, str], str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _typed(loader, value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _typed(loader, value, (*place, str(number)))
    elif node.tag != TEXT and (read := shown(loader.construct_object(node))) != node.value:
        yield (".".join(place), read), node.value
        if len(place) > 1 and place[0] in OF_SETTINGS:
            yield (place[1], read), node.value
