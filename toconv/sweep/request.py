"""What was asked of a sweep, as sweep.yaml keeps it: written at each start, read by whoever comes later."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter

from toconv import __version__
from toconv.errors import RequestError
from toconv.paths import SweepPaths, write_atomic
from toconv.settings import Settings
from toconv.state_files import as_kind, read_yaml
from toconv.sweep.file import Sweep
from toconv.sweep.schema import SweepFile
from toconv.tokens.images import sources
from toconv.training.identity import deciding, training_code

SQLITE = b"SQLite format 3\0"
LAYOUT = 2  # of a sweep's folder
REMEDY = "put a copy of it back, or remove it: the sweep's own command then writes it anew"
UNKNOWN: dict[str, Any] = {
    "versions": {},
    "python": None,
    "machine": None,
    "git_commit": None,
    "command": "",
}  # of a start
DEFINING = ("grid", "search", "objectives", "sampler", "start_with", "early_stopping")  # keys of the sweep file


class Definition(BaseModel, extra="allow"):
    """What of sweep.yaml's `definition` is read by name."""

    settings: dict[str, Any]
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]  # a folder's name
    code: str


class Written(BaseModel, extra="allow"):
    """What of sweep.yaml is read again."""

    question: str
    versions: dict[str, str] = {}
    python: str | None = None
    machine: str | None = None
    git_commit: str | None = None
    command: str = ""
    definition: Definition
    request: SweepFile
    overrides: dict[str, Any]
    base: Settings


def definition(sweep: Sweep, fingerprint: str) -> dict[str, Any]:
    """What makes this sweep this sweep. Trials, budget and resources may change between two starts."""
    fixed = {"settings": deciding(sweep.base), "fingerprint": fingerprint, "code": training_code()}
    return {**fixed, **_defining(sweep.file)}


def _defining(file: SweepFile) -> dict[str, Any]:
    """Of an earlier version's file too, as this version takes it: ranges of whole-number settings in whole numbers. A
    user's own measure defines the sweep where trials were proposed by it; any other may change between two starts."""
    own = {"evaluation": file.evaluation.identity() if file.evaluation and file.own_objectives else None}
    return file.model_dump(mode="json", include=set(DEFINING)) | own


def check_request(sweep: Sweep, paths: SweepPaths, fingerprint: str) -> None:
    """Raises RequestError where the folder holds a sweep that is defined otherwise, or a file in the ledger's place."""
    if paths.study.exists() and _begins(paths.study) not in (SQLITE, b""):
        raise RequestError(f"{paths.study}: is no ledger of a sweep (a SQLite file); choose another name=")
    if not paths.request.exists():
        return
    earlier, wanted = read_request(paths), definition(sweep, fingerprint)
    found = {**earlier["definition"], **_defining(_written(paths, earlier).request)}
    changed = [f"{key}: was {was!r}, now {now!r}" for key, was, now in _differences(found, wanted)]
    was, now = earlier.get("pictures"), sources(sweep.base.data)
    if changed and was and was != now:
        changed.append(f"photographs: were {was}, now {now}")
    if changed:
        raise RequestError(
            f"{paths.root}: holds a sweep that is defined otherwise; ask for what it was, or "
            "choose another name=. " + "; ".join(changed)
        )


def record_request(sweep: Sweep, paths: SweepPaths, fingerprint: str, facts: Mapping[str, Any]) -> None:
    """Write sweep.yaml. Raises as `check_request` does."""
    check_request(sweep, paths, fingerprint)
    content = {
        "layout": LAYOUT,
        "question": sweep.question,
        "toconv": __version__,
        **facts,
        "definition": definition(sweep, fingerprint),
        "request": sweep.file.model_dump(mode="json"),
        "overrides": dict(sweep.overrides),
        "base": sweep.base.model_dump(mode="json"),
    }
    paths.root.mkdir(parents=True, exist_ok=True)
    write_atomic(paths.request, yaml.safe_dump(content, sort_keys=False))


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
    _written(paths, found)
    return {**UNKNOWN, **found}


def _written(paths: SweepPaths, found: dict[str, Any]) -> Written:
    return as_kind(found, TypeAdapter(Written), paths.request, REMEDY)


def recorded_sweep(paths: SweepPaths) -> tuple[Sweep, str]:
    """The request that sweep.yaml holds, and the fingerprint of its tokens. Raises as `read_request` does."""
    found = _written(paths, read_request(paths))
    return Sweep(found.request, found.overrides, found.base, found.question), found.definition.fingerprint


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE))


def _differences(found: Any, wanted: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        below = (_differences(found.get(k), wanted.get(k), f"{prefix}{k}.") for k in sorted({*found, *wanted}))
        return list(chain.from_iterable(below))
    return [] if found == wanted else [(prefix.rstrip("."), found, wanted)]
