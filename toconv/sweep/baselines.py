"""Baselines of a sweep: computed once for each token store and k, kept beside the tokens."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import FiniteFloat, TypeAdapter

from toconv.analysis.records import Kind, State, TrialRecord
from toconv.code_version import code_version
from toconv.errors import DamagedFile, DataError, EncoderError, SealBroken
from toconv.evaluation.baselines import BATCH, MEASURED_BY, SMALLER, measure, measure_smaller
from toconv.evaluation.final import Evaluation
from toconv.evaluation.metrics import SHRINKAGE
from toconv.hardware import resolve_device
from toconv.paths import sha256, write_atomic
from toconv.progress import bar, console, phase, say
from toconv.settings import GRID_SIZE, Group
from toconv.state_files import read_bytes, read_json
from toconv.sweep.file import Sweep
from toconv.sweep.proposals import Trial
from toconv.tokens.local_cache import LocalCache
from toconv.tokens.manifest import DERIVED, SEAL
from toconv.tokens.smaller_store import smaller_store
from toconv.tokens.store import TokenStore

if TYPE_CHECKING:  # torchvision, where nothing is encoded
    from toconv.tokens.smaller_picture import HelpersOf


class Measured(Group):
    """Of one baseline."""

    metrics: dict[str, FiniteFloat]
    seconds: FiniteFloat


def baseline_records(
    sweep: Sweep, store: Path, trials: Sequence[Trial] = (), helpers_of: HelpersOf = lambda lacking: ()
) -> list[TrialRecord]:
    """A record for each baseline at each k of the sweep, and of its trials so far, measured on the validation
    images. `helpers_of` gives other devices that encode smaller pictures."""
    sizes, missing = _sizes(sweep, trials), list[int]()
    if _unmeasured(store, sizes) or _unmeasured(store, sizes, SMALLER):
        (store / DERIVED).mkdir(exist_ok=True)
        lock = FileLock(store / DERIVED / "baselines.lock")
        with phase(f"measuring baselines of {store}, one process at a time"), lock:
            missing = _measure(sweep, store, sizes, helpers_of)
    records = recorded_baselines(sweep, store, trials)
    if missing:
        shrunk = [" + ".join(f"{r.values[name]:g}" for name in SHRINKAGE) for r in records if r.name == "linear"]
        console.print(
            f"baselines measured at k = {', '.join(map(str, missing))}; the linear code's covariance is shrunk by "
            f"{', '.join(shrunk)} at k = {', '.join(map(str, sizes))}, by cross-validation over training pictures"
        )
    return records


def _measure(sweep: Sweep, store: Path, sizes: list[int], helpers_of: HelpersOf) -> list[int]:
    """What is not measured yet, alone: a file and its seal are written by one process. Returns each k at which the
    baselines that tokens suffice for were missing."""
    missing, smaller = _unmeasured(store, sizes), _unmeasured(store, sizes, SMALLER)
    if missing or smaller:
        tokens = TokenStore(store, LocalCache.asked(sweep.base.store))
        for what, why in tokens.uncopied.items():
            say(f"{what}: {why}")
        smaller = _encoded(sweep, tokens, smaller, helpers_of)
        evaluation = Evaluation(tokens, sweep.base.encoder, BATCH, resolve_device(sweep.base.hardware))
        steps = [(measure, _path(store, k), k) for k in missing]
        steps += [(measure_smaller, _path(store, k, SMALLER), k) for k in smaller]
        with bar("steps") as progress:
            task = progress.add_task("baselines", total=len(steps))
            for measured, path, k in steps:
                _keep(path, measured(evaluation, k))
                progress.advance(task)
    return missing


def _encoded(sweep: Sweep, store: TokenStore, sizes: list[int], helpers_of: HelpersOf) -> list[int]:
    """Those of `sizes` at which the smaller pictures' tokens are there now. Where they cannot be had, that is said, and
    tried again at the next start."""
    from toconv.tokens.smaller_picture import encode_smaller  # start-up: torchvision, where nothing is encoded

    try:
        encode_smaller(sweep.base, store, sizes, helpers_of)
    except (DataError, EncoderError) as error:
        say(f"baseline {SMALLER} left out at k = {', '.join(map(str, sizes))}: {error}")
    return [k for k in sizes if smaller_store(store, k) is not None]


def _sizes(sweep: Sweep, trials: Sequence[Trial]) -> list[int]:
    """Trials of an earlier file of the sweep may have others than are asked for now."""
    return sorted({*sweep.grid_sizes(), *(math.isqrt(sweep.tokens(t.proposal.params)) for t in trials)})


def smaller_sizes(sweep: Sweep, store: Path) -> list[int]:
    """Each k at which a start needs the tokens of smaller pictures."""
    return _unmeasured(store, _sizes(sweep, ()), SMALLER) if sweep.file.baselines else []


def _unmeasured(store: Path, sizes: Sequence[int], *of: str) -> list[int]:
    return [k for k in sizes if _measured(_path(store, k, *of)) is None]


def recorded_baselines(sweep: Sweep, store: Path, trials: Sequence[Trial] = ()) -> list[TrialRecord]:
    """Those that have been measured. Raises SealBroken where one was altered since."""
    found = (
        (k, name, measured)
        for k in _sizes(sweep, trials)
        for path in (_path(store, k), _path(store, k, SMALLER))
        for name, measured in (_measured(path) or {}).items()
    )
    return [_record(store, *of) for of in found]


def _keep(path: Path, measured: Mapping[str, Any]) -> None:
    """The seal first: without a file that it is of, it says nothing."""
    content = json.dumps(measured, indent=1)
    write_atomic(_seal(path), hashlib.sha256(content.encode()).hexdigest() + "\n")
    write_atomic(path, content)


def _measured(path: Path) -> dict[str, Measured] | None:
    """None where there is nothing that can be read: it is soon measured again. Those of version 0.1 have no seal."""
    try:
        found = read_json(path, TypeAdapter(dict[str, Measured])) if path.exists() else None
    except DamagedFile:
        return None
    if found is not None and _seal(path).is_file() and read_bytes(_seal(path)).strip() != sha256(path).encode():
        raise SealBroken(f"{path}: is not as it was when it was measured; remove it, and it is measured again")
    return found


def _seal(path: Path) -> Path:
    return path.with_suffix(SEAL)


def _path(store: Path, k: int, of: str = "baselines") -> Path:
    """Of the baselines that tokens suffice for, or of SMALLER, which needs the pictures too."""
    return store / DERIVED / f"{of}-k{k}-{code_version(MEASURED_BY)}.json"


def _record(store: Path, k: int, name: str, found: Measured) -> TrialRecord:
    identity = hashlib.sha256(f"{store.name} {name} {k} {code_version(MEASURED_BY)}".encode()).hexdigest()[:12]
    return TrialRecord(
        trial_id=identity,
        name=name,
        kind=Kind.BASELINE,
        state=State.COMPLETE,
        cell=f"k={k}",
        tokens=k * k,
        params={GRID_SIZE: k},
        values=found.metrics,
        device_seconds=found.seconds,
    )
