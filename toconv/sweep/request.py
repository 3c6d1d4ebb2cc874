"""What was asked of a sweep, as sweep.yaml keeps it: held against what the folder has, and written at each start."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from toconv import __version__
from toconv.errors import RequestError
from toconv.paths import SweepPaths, write_atomic
from toconv.sweep.file import Sweep
from toconv.sweep.recorded import LAYOUT, read_request, written_in
from toconv.sweep.schema import SweepFile
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
    found = {**earlier["definition"], **_defining(written_in(paths, earlier).request)}
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


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(SQLITE))


def _differences(found: Any, wanted: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        below = (_differences(found.get(k), wanted.get(k), f"{prefix}{k}.") for k in sorted({*found, *wanted}))
        return list(chain.from_iterable(below))
    return [] if found == wanted else [(prefix.rstrip("."), found, wanted)]
