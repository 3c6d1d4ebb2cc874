"""Files that earlier starts left, read back: whatever lies there, it is a value of the asked type or a DamagedFile."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from toconv.errors import DamagedFile, first_line
from toconv.validation import broken_rule

MOST_BYTES = 64 * 2**20
MOST_PARTS = 100_000  # keys and values of a file of settings, with what aliases repeat
MOST_DEPTH = 50
T = TypeVar("T")


def read_bytes(path: Path, remedy: str = "", most_bytes: int | None = None) -> bytes:
    """Raises DamagedFile, which ends with the `remedy`, where it is no file or too large for what toconv writes."""
    try:
        if not path.is_file():
            raise DamagedFile(path, "must be a file", remedy)
        most = MOST_BYTES if most_bytes is None else most_bytes
        if path.stat().st_size > most:
            raise DamagedFile(path, f"must hold at most {most} bytes, has {path.stat().st_size}", remedy)
        return path.read_bytes()
    except OSError as error:
        raise DamagedFile(path, f"not readable ({error.strerror})", remedy) from error


def read_json(path: Path, kind: TypeAdapter[T], remedy: str = "", most_bytes: int | None = None) -> T:
    """Raises DamagedFile where the file is no JSON of that kind."""
    try:
        return kind.validate_json(read_bytes(path, remedy, most_bytes))
    except ValidationError as error:
        raise DamagedFile(path, f"not what toconv writes ({broken_rule(error)})", remedy) from error


def read_json_lines(path: Path, kind: TypeAdapter[T]) -> list[T]:
    """The lines of a file that is appended to, up to the first that is none of that kind: one torn by an interruption.
    [] where there is no file. Raises DamagedFile where it cannot be read at all."""
    found: list[T] = []
    for line in read_bytes(path).splitlines() if path.exists() else []:
        try:
            found.append(kind.validate_json(line))
        except ValidationError:
            break
    return found


def read_yaml(path: Path, kind: TypeAdapter[T], remedy: str = "") -> T:
    """Raises DamagedFile where the file is no YAML of that kind."""
    try:
        text = read_bytes(path, remedy)
        _count_levels(text)
        content = yaml.safe_load(text)
        _count_parts(content)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # what PyYAML raises
        raise DamagedFile(path, f"not readable as YAML ({first_line(error)})", remedy) from error
    return as_kind(content, kind, path, remedy)


def as_kind(content: Any, kind: TypeAdapter[T], path: Path, remedy: str = "") -> T:
    """Of what was read from `path`. Raises DamagedFile where it is none of that kind."""
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        raise DamagedFile(path, f"not what toconv writes ({broken_rule(error)})", remedy) from error


def _count_levels(text: bytes) -> None:
    """Raises ValueError on more levels than anybody wrote, of which PyYAML makes something only level by level."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ValueError(f"more than {MOST_DEPTH} levels")


def _count_parts(content: Any) -> None:
    """Raises ValueError on more values than anybody wrote: aliases of aliases, or of themselves."""
    waiting, count = [content], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > MOST_PARTS:
            raise ValueError(f"more than {MOST_PARTS} values")
        if isinstance(node, dict | list | tuple | set):
            waiting += [*node, *node.values()] if isinstance(node, dict) else list(node)
