"""sweep.yaml of a sweep, read back. Needs no torch: who looks at a sweep from outside waits for nothing."""

import secrets
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from toconv.errors import RequestError
from toconv.paths import SweepPaths
from toconv.settings import Settings
from toconv.state_files import as_kind, read_yaml
from toconv.sweep.file import Sweep
from toconv.sweep.growth import Growth
from toconv.sweep.schema import SweepFile

LAYOUT = 2  # of a sweep's folder
ID_BYTES = 6
SweepId = Annotated[str, Field(pattern=rf"^[A-Za-z0-9_-]{{1,64}}-[0-9a-f]{{{2 * ID_BYTES}}}$")]
REMEDY = "put a copy of it back, or choose another name= and begin anew"
UNKNOWN: dict[str, Any] = {
    "versions": {},
    "python": None,
    "machine": None,
    "git_commit": None,
    "command": "",
}  # of a start


class Definition(BaseModel, extra="allow"):
    """What of sweep.yaml's `definition` is read by name."""

    settings: dict[str, Any]
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]  # a folder's name
    code: str


class Written(BaseModel, extra="allow"):
    """What of sweep.yaml is read again."""

    id: SweepId | None = None  # None: an earlier version recorded it
    question: str
    versions: dict[str, str] = {}
    python: str | None = None
    machine: str | None = None
    git_commit: str | None = None
    command: str = ""
    growths: tuple[Growth, ...] = ()
    definition: Definition
    request: SweepFile
    overrides: dict[str, Any]
    base: Settings


def read_request(paths: SweepPaths) -> dict[str, Any]:
    """The content of sweep.yaml. Raises RequestError where there is none, or one of an earlier layout, DamagedFile
    where it is not what toconv writes."""
    if not paths.request.exists():
        others = sorted(path.parent.name for path in paths.root.parent.glob(f"*/{paths.request.name}"))
        raise RequestError(
            f"{paths.root}: holds no sweep; "
            + (f"there are {', '.join(others)}" if others else f"{paths.root.parent} holds none at all")
        )
    found = read_yaml(paths.request, TypeAdapter(dict[str, Any]), REMEDY)
    if found.get("layout") != LAYOUT:
        raise RequestError(
            f"{paths.root}: holds a sweep of an earlier layout ({found.get('layout', 1)}; this version of toconv reads "
            f"and writes {LAYOUT}); its files stay as they are: choose another name=, or go on with toconv at "
            f"{found.get('git_commit') or 'the version that made it'}"
        )
    written_in(paths, found)
    return {**UNKNOWN, **found}


def fresh_id(name: str) -> str:
    """Of a sweep that is new: no other one has it, whatever their names are."""
    return f"{name}-{secrets.token_hex(ID_BYTES)}"


def written_in(paths: SweepPaths, found: dict[str, Any]) -> Written:
    return as_kind(found, TypeAdapter(Written), paths.request, REMEDY)


def recorded_sweep(paths: SweepPaths) -> tuple[Sweep, str]:
    """The request that sweep.yaml holds, and the fingerprint of its tokens. Raises as `read_request` does."""
    found = written_in(paths, read_request(paths))
    return sweep_of(found), found.definition.fingerprint


def sweep_of(found: Written) -> Sweep:
    return Sweep(found.request, found.overrides, found.base, found.question)
