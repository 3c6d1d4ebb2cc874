"""What was asked of a sweep, as sweep.yaml keeps it: held against what the folder has, and written at each start."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from toconv import __version__
from toconv.config import flat
from toconv.errors import RequestError
from toconv.machine import user
from toconv.paths import SweepPaths, write_atomic
from toconv.redaction import redact
from toconv.settings import EPOCHS
from toconv.sweep.file import Sweep
from toconv.sweep.growth import Change, Growth, axes, changes
from toconv.sweep.recorded import LAYOUT, Written, fresh_id, read_request, sweep_of, written_in
from toconv.sweep.schema import SweepFile
from toconv.sweep.search.glance import is_there
from toconv.sweep.search.ledger_place import Database, LedgerPlace, recorded_place
from toconv.tokens.images import sources
from toconv.training.identity import deciding, training_code

SQLITE = b"SQLite format 3\0"
DEFINING = (
    "grid",
    "search",
    "objectives",
    "constraints",
    "sampler",
    "start_with",
    "early_stopping",
)  # keys of the sweep file


def definition(sweep: Sweep, fingerprint: str) -> dict[str, Any]:
    """What makes this sweep this sweep. What of it may change between two starts is said by `toconv.sweep.growth`."""
    fixed = {"settings": deciding(sweep.base), "fingerprint": fingerprint, "code": training_code()}
    return {**fixed, **_defining(sweep.file)}


def _defining(file: SweepFile) -> dict[str, Any]:
    """Of an earlier version's file too, as this version takes it: ranges of whole-number settings in whole numbers. A
    user's own measure defines the sweep where trials were proposed by it; any other may change between two starts."""
    own = {"evaluation": file.evaluation.identity() if file.evaluation and file.own_objectives else None}
    return file.model_dump(mode="json", include=set(DEFINING)) | own


@dataclass(frozen=True)
class Earlier:
    """What the last start of a sweep left, and what is asked for otherwise since."""

    id: str | None  # the sweep's, for good; None: an earlier version began it
    sweep: Sweep | None = None  # None: there was none
    growths: tuple[Growth, ...] = ()
    changes: tuple[Change, ...] = ()


def check_request(sweep: Sweep, paths: SweepPaths, fingerprint: str) -> Earlier:
    """What the sweep that goes on here was so far. Raises RequestError where what is asked for changes what its
    finished numbers mean, or where a file lies in the ledger's place."""
    if paths.study.exists() and _begins(paths.study) not in (SQLITE, b""):
        raise RequestError(f"{paths.study}: is no ledger of a sweep (a SQLite file); choose another name=")
    if not paths.request.exists():
        return Earlier(fresh_id(sweep.file.name))
    content = read_request(paths)
    written = written_in(paths, content)
    earlier = sweep_of(written)
    found_changes = changes(earlier, sweep)
    changed = [*_changed_for_good(content, earlier, sweep, fingerprint)]
    changed += _moved(written, sweep, paths)
    changed += [f"{c.key}: was {c.was}, now {c.now}" for c in found_changes if c.key == EPOCHS]
    was, now = content.get("pictures"), sources(sweep.base.data)
    if changed and was and was != now:
        changed.append(f"photographs: were {was}, now {now}")
    if changed:
        raise RequestError(
            f"{paths.root}: holds a sweep that is defined otherwise; ask for what it was, or "
            f"choose another name=. {_advice(sweep, changed)}{'; '.join(changed)}"
        )
    return Earlier(written.id, earlier, written.growths, tuple(found_changes))


def _changed_for_good(content: Mapping[str, Any], earlier: Sweep, sweep: Sweep, fingerprint: str) -> Iterator[str]:
    """What differs of that which all trials of a sweep have in common."""
    free, found = axes(sweep.file, earlier.file), {**content["definition"], **_defining(earlier.file)}
    before, after = (_lasting(side, free) for side in (found, definition(sweep, fingerprint)))
    if not (before["evaluation"] and after["evaluation"]):  # it is an objective in one of them alone
        before["evaluation"] = after["evaluation"] = None
    for key, was, now in _differences(before, after):
        yield f"{key}: was {was!r}, now {now!r}"


def _moved(written: Written, sweep: Sweep, paths: SweepPaths) -> Iterator[str]:
    """A ledger stays where it is; a database may get another address, where the ledger is found there."""
    was, now = written.request.storage.study, sweep.file.storage.study
    if was == now:
        return
    ledger = recorded_place(paths)
    if not (now and isinstance(ledger, Database) and is_there(Database(now, ledger.name))):
        yield f"storage.study: was {redact(was or 'null')}, now {redact(now or 'null')}, which has not its ledger"


def _lasting(found: Mapping[str, Any], free: set[str]) -> dict[str, Any]:
    """What of a definition all trials of a sweep have in common; `free` are settings in which trials differ."""
    settings = {key: value for key, value in flat(found["settings"]).items() if key not in free}
    return {"settings": settings, **{key: found.get(key) for key in ("fingerprint", "code", "evaluation")}}


def _advice(sweep: Sweep, changed: list[str]) -> str:
    if any(EPOCHS in line for line in changed):
        name, epochs = sweep.file.name, sweep.base.training.epochs
        return f"To train chosen trials further: toconv extend {name} --epochs {epochs} --trials best:3. "
    if all(line.startswith("settings.") for line in changed):
        return "To have a setting's values side by side, put both under grid. "
    return ""


def record_request(
    sweep: Sweep,
    paths: SweepPaths,
    fingerprint: str,
    facts: Mapping[str, Any],
    earlier: Earlier | None = None,
    ledger: LedgerPlace | None = None,
) -> int:
    """Write sweep.yaml; returns how many growths it tells of. `earlier` is what `check_request` says, which is asked
    where it is left out; a `ledger` in a database is named."""
    earlier = earlier or check_request(sweep, paths, fingerprint)
    growths = [*earlier.growths]
    if earlier.changes:
        growths.append(Growth(at=time.time(), user=user(), changes=earlier.changes))
    content = {
        "layout": LAYOUT,
        **({"id": earlier.id} if earlier.id else {}),
        "question": sweep.question,
        "toconv": __version__,
        **facts,
        **({"ledger": asdict(ledger)} if isinstance(ledger, Database) else {}),
        "growths": [growth.model_dump(mode="json") for growth in growths],
        "definition": definition(sweep, fingerprint),
        "request": sweep.file.model_dump(mode="json"),
        "overrides": dict(sweep.overrides),
        "base": sweep.base.model_dump(mode="json"),
    }
    paths.root.mkdir(parents=True, exist_ok=True)
    write_atomic(paths.request, yaml.safe_dump(content, sort_keys=False))
    return len(growths)


def grown(paths: SweepPaths) -> list[Growth]:
    """The starts that went on with another file, one after the other."""
    return [*written_in(paths, read_request(paths)).growths] if paths.request.exists() else []


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE))


def _differences(found: Any, wanted: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        below = (_differences(found.get(k), wanted.get(k), f"{prefix}{k}.") for k in sorted({*found, *wanted}))
        return list(chain.from_iterable(below))
    return [] if found == wanted else [(prefix.rstrip("."), found, wanted)]
