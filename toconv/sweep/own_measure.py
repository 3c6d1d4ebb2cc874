"""A user's own measure of compressors: what a sweep file asks for, and what is kept of it beside a trial."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, TypeAdapter, model_validator

from toconv.analysis.results import FACTS, LAST
from toconv.errors import DamagedFile, disk
from toconv.evaluation.metrics import sized, taken_names
from toconv.paths import TrialPaths, write_atomic
from toconv.ranges import Countable, Real, Text
from toconv.settings import Group
from toconv.state_files import read_json

PLACEHOLDER = re.compile(r"\{(\w+)\}")
KNOWN = ("export", "output")  # what stands for a folder and a file in a command
COLUMNS = {*FACTS, *LAST, "reason"}  # of results.csv and of the report's rows


def _free(name: str) -> str:
    """A name that no column of results has."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise ValueError("must be a letter or _, then letters, digits and _, at most 64 in all")
    if sized(name) or name in taken_names() | COLUMNS:
        raise ValueError("is a name of toconv's own in results.csv; give yours another one")
    return name


MetricName = Annotated[str, AfterValidator(_free)]


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _split(command: str) -> str:
    """A command that runs without a shell, and is told of the export and of its output."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"cannot be split into words ({error})") from None
    used = {name for word in words for name in PLACEHOLDER.findall(word)}
    if unknown := sorted(used - set(KNOWN)):
        raise ValueError(f"{_braced(unknown)}: stands for nothing; {_braced(KNOWN)} do")
    if missing := [name for name in KNOWN if name not in used]:
        raise ValueError(
            f"must hold {_braced(missing)}: {{export}} is the compressor's folder, {{output}} the JSON file to write"
        )
    if PLACEHOLDER.search(words[0]):
        raise ValueError("must begin with a program")
    return command


def _named(function: str) -> str:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", function):
        raise ValueError("must be package.module:function")
    return function


def _braced(names: Sequence[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in names)


class OwnMeasure(Group):
    """The section `evaluation` of a sweep file."""

    command: Annotated[Text, AfterValidator(_split)] | None = None
    function: Annotated[Text, AfterValidator(_named)] | None = None
    metric: Annotated[tuple[MetricName, ...], BeforeValidator(_several), Field(min_length=1)]
    on: Literal["finalists", "trials"] = "finalists"
    gpu: Annotated[Countable, Field(ge=0, le=1024)] = 1
    timeout_minutes: Annotated[Real, Field(gt=0, le=10**6)] = 60

    @model_validator(mode="after")
    def _one_way(self) -> OwnMeasure:
        if (self.command is None) == (self.function is None):
            raise ValueError("give a command or a function" + (", not both" if self.command else ""))
        return self

    @property
    def asked(self) -> str:
        """In the words of the sweep file."""
        return self.command or self.function or ""

    def words(self, export: Path, output: Path) -> list[str]:
        """The command's; [] of a function."""
        given = {"{export}": str(export), "{output}": str(output)}
        return [PLACEHOLDER.sub(lambda found: given[found[0]], word) for word in shlex.split(self.command or "")]

    def identity(self) -> dict[str, Any]:
        """What decides the numbers, as far as a sweep file says it: what a script holds is not looked at."""
        return self.model_dump(mode="json", include={"command", "function", "metric"})

    @property
    def key(self) -> str:
        return _digest(self.identity())


class Evaluated(Group):
    """evaluation.json: what an evaluation of a trial came to."""

    key: str  # of the OwnMeasure
    asked: str
    metrics: dict[str, FiniteFloat] = {}
    failed: str | None = None  # why there are no metrics
    seconds: FiniteFloat

    @property
    def seal(self) -> str:
        return _digest(self.model_dump(mode="json"))


class _Kept(Group):
    found: Evaluated
    seal: str


def search_path() -> str:
    """Where programs are looked for: beside the Python of the sweep, then as everywhere."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def keep(paths: TrialPaths, found: Evaluated) -> None:
    """Raises MachineryError where it cannot be written."""
    content = {"found": found.model_dump(mode="json"), "seal": found.seal}
    with disk(f"{paths.evaluation}: not written"):
        write_atomic(paths.evaluation, json.dumps(content, indent=1) + "\n")


def evaluated(paths: TrialPaths, asked: OwnMeasure) -> Evaluated | None:
    """What this very measure came to. None where it was not evaluated, and where the file cannot be read or was
    altered: it is evaluated again."""
    try:
        kept = read_json(paths.evaluation, TypeAdapter(_Kept)) if paths.evaluation.exists() else None
    except DamagedFile:
        return None
    return kept.found if kept and kept.found.key == asked.key and kept.found.seal == kept.seal else None


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
