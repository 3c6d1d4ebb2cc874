"""What of a sweep file may change between two starts, what each change does, and where the trials so far lie then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from toconv.config import flat, shown
from toconv.ranges import Moment
from toconv.setting_names import as_declared, changes_a_number
from toconv.settings import Group
from toconv.sweep.file import OF_TOKENS, Cell, Sweep
from toconv.sweep.schema import SweepFile
from toconv.sweep.space import Distribution, Params

IN_LEDGER = ("grid", "search", "objectives", "constraints")  # keys by which the ledger keeps a trial
EFFECTS = {
    "objectives": "front, sampler, finalists and report go by these, also for the trials so far",
    "constraints": "told to the sampler and marked, also of the trials so far",
    "sampler": "draws what comes",
    "learn_from": "the sampler learns from these besides",
    "start_with": "points that no trial has are tried next in each cell",
    "early_stopping": "for what comes, held against the epochs of the trials so far",
    "trials": "in each cell, those so far among them",
    "stop_when": "held against the trials so far too",
}
Identify = Callable[[Mapping[str, Any]], str]  # the trial_id of parameters


class Change(Group):
    """Something of a sweep file that is not as it was."""

    key: str
    was: str
    now: str
    does: str


class Growth(Group):
    """A start that went on with another file."""

    at: Moment  # seconds since the epoch
    user: str | None
    changes: tuple[Change, ...]

    @property
    def says(self) -> str:
        """`by alice at 2026-11-28 20:01:05 UTC (trials: 4, now 8)`"""
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.at))
        told = "; ".join(f"{c.key}: {c.was}, now {c.now}" for c in self.changes)
        return f"by {self.user or 'somebody'} at {when} ({told})"


@dataclass(frozen=True)
class Place:
    """Where a trial lies in a sweep whose file has changed."""

    cell: str
    params: Params  # all that has to be said of it beside what the file gives every trial
    point: Params | None  # of the searched settings; None where it lies outside of the space


def axes(*files: SweepFile) -> set[str]:
    """What any of them enumerates or searches."""
    return {key for file in files for key in (*file.grid, *file.search)}


def changes(was: Sweep, now: Sweep) -> list[Change]:
    """In the order of a sweep file's keys."""
    keys = dict.fromkeys(key for file in (was.file, now.file) for key in (*file.grid, *file.search))
    found = [Change(key=key, was=a, now=b, does=_does(was.file, now.file, key)) for key, a, b in _asked(was, now, keys)]
    for key, does in EFFECTS.items():
        before, after = (file.model_dump(mode="json")[key] for file in (was.file, now.file))
        if before != after:
            found.append(Change(key=key, was=_shown(before), now=_shown(after), does=does))
    return found


def touches_ledger(was: SweepFile, now: SweepFile) -> bool:
    """Whether trials are kept otherwise."""
    return any(getattr(was, key) != getattr(now, key) for key in IN_LEDGER)


def _asked(was: Sweep, now: Sweep, keys: Mapping[str, None]) -> Iterator[tuple[str, str, str]]:
    for key in keys:
        before, after = (_how(sweep, key) for sweep in (was, now))
        if before != after:
            yield key, before, after


def _how(sweep: Sweep, key: str) -> str:
    """How a sweep asks for a setting: `0.1 to 100, log`, `each of 4, 6`, `5`."""
    if key in sweep.file.grid:
        return f"each of {_listed(sweep.file.grid[key])}"
    if key in sweep.file.search:
        return sweep.file.search[key].stated
    return shown(sweep.given[key])


def _does(was: SweepFile, now: SweepFile, key: str) -> str:
    if key in now.grid:
        return _cells_change(was.grid.get(key, []), now.grid[key])
    if key not in now.search:
        return "fixed in the trials to come"
    if key not in was.search:
        return "drawn in the trials to come"
    return _space_changes(was.search[key], now.search[key])


def _cells_change(was: list[Any], now: list[Any]) -> str:
    more, gone = ([v for v in a if v not in b] for a, b in ((now, was), (was, now)))
    told = [f"{_listed(more)}: new cells" if more else "", f"{_listed(gone)}: nothing more is drawn" if gone else ""]
    return "; ".join(filter(None, told)) or "cells in another order"


def _space_changes(was: Distribution, now: Distribution) -> str:
    if was.choices is not None and now.choices is not None:
        more, gone = ([v for v in a if v not in b] for a, b in ((now.choices, was.choices), (was.choices, now.choices)))
        told = [f"{_listed(more)}: drawn too" if more else "", f"{_listed(gone)}: drawn no more" if gone else ""]
        return "; ".join(filter(None, told)) or "drawn otherwise"
    if was.choices is not None or now.choices is not None or was.range == now.range:
        return "drawn otherwise"
    wider = now.range[0] < was.range[0] or now.range[1] > was.range[1]
    narrower = now.range[0] > was.range[0] or now.range[1] < was.range[1]
    return "drawn from a range that is " + " and ".join(["wider"] * wider + ["narrower"] * narrower)


def _listed(values: list[Any]) -> str:
    return ", ".join(map(shown, values))


def _shown(value: Any) -> str:
    return "none" if value in (None, {}, []) else shown(value)


def place(was: Sweep, now: Sweep, params: Mapping[str, Any], trial_id: str, cell: str, identify: Identify) -> Place:
    """Of a trial of `was` with these parameters in a cell of that name. It lies in the cell of `now` whose enumerated
    values it has, and in its space where that could propose this very training (`identify`)."""
    values = flat(was.settings(params).model_dump(mode="json"))
    home, point = lies(now, values)
    if home and point is not None and identify({**home.fixed, **point}) != trial_id:
        point = None
    differing = {key: value for key, value in values.items() if _counts(key) and value != now.given.get(key)}
    told = {**differing, **dict(params), **{key: values[key] for key in now.file.grid}, **(point or {})}
    return Place(home.name if home else cell, told, point)


def lies(sweep: Sweep, values: Mapping[str, Any]) -> tuple[Cell | None, Params | None]:
    """The cell in which settings lie, by what it enumerates, and the point of its space; None where there is none."""
    homes = (c for c in sweep.cells() if all(k in values and _same(k, values[k], v) for k, v in c.fixed.items()))
    home = next(homes, None)
    return home, _point(sweep, home, values) if home else None


def _point(now: Sweep, home: Cell, values: Mapping[str, Any]) -> Params | None:
    """The values of what is searched in a cell, as the search proposes them; None where it could not."""
    point, known = Params(), now.known(home)
    for key, distribution in now.file.search.items():
        if not distribution.active({**known, **point}):
            continue
        found = _proposed(key, distribution, values[key]) if key in values else []
        if not found:
            return None
        point[key] = found[0]
    return point


def _proposed(key: str, distribution: Distribution, value: Any) -> list[Any]:
    """The value as a search proposes it; empty where it never does."""
    if distribution.choices is not None:
        return [choice for choice in distribution.choices if _same(key, choice, value)][:1]
    if not distribution.allows(value):
        return []
    return [int(value) if distribution.type == "int" else float(value)]


def _same(key: str, value: Any, other: Any) -> bool:
    return repr(as_declared(key, value)) == repr(as_declared(key, other))


def _counts(key: str) -> bool:
    """Whether trials of one sweep may differ in it."""
    return changes_a_number(key) and key.partition(".")[0] not in OF_TOKENS
