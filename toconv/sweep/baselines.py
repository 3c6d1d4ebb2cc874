"""Baselines of a sweep: computed once for each token store and k, kept beside the tokens."""

import hashlib
import json
from pathlib import Path
from typing import Any

from toconv.analysis.records import Kind, State, TrialRecord
from toconv.code_version import code_version
from toconv.evaluation.baselines import MEASURED_BY, measure
from toconv.hardware import resolve_device
from toconv.paths import write_atomic
from toconv.progress import bar, console
from toconv.settings import GRID_SIZE
from toconv.sweep.file import Sweep
from toconv.tokens.store import TokenStore


def baseline_records(sweep: Sweep, store: Path) -> list[TrialRecord]:
    """A record for each baseline at each k of the sweep, measured on the validation images."""
    sizes = sweep.grid_sizes()
    missing = [k for k in sizes if not _path(store, k).exists()]
    if missing:
        device, tokens = resolve_device(sweep.base.hardware), TokenStore(store)
        with bar("k") as progress:
            for k in progress.track(missing, description="baselines at each"):
                write_atomic(_path(store, k), json.dumps(measure(tokens, sweep.base.encoder, k, device), indent=1))
        console.print(f"baselines measured at k = {', '.join(map(str, missing))}")
    return recorded_baselines(sweep, store)


def recorded_baselines(sweep: Sweep, store: Path) -> list[TrialRecord]:
    """Those that have been measured."""
    there = [k for k in sweep.grid_sizes() if _path(store, k).exists()]
    found = ((k, json.loads(_path(store, k).read_text())) for k in there)
    return [_record(store, k, name, measured) for k, by_name in found for name, measured in by_name.items()]


def _path(store: Path, k: int) -> Path:
    return store / "derived" / f"baselines-k{k}-{code_version(MEASURED_BY)}.json"


def _record(store: Path, k: int, name: str, found: dict[str, Any]) -> TrialRecord:
    identity = hashlib.sha256(f"{store.name} {name} {k} {code_version(MEASURED_BY)}".encode()).hexdigest()[:12]
    return TrialRecord(
        trial_id=identity,
        name=name,
        kind=Kind.BASELINE,
        state=State.COMPLETE,
        cell=f"k={k}",
        tokens=k * k,
        params={GRID_SIZE: k},
        values=found["metrics"],
        device_seconds=found["seconds"],
    )
