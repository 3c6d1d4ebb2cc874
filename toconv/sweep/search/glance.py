"""The ledger as its file has it, read without Optuna, which takes a second to import. Changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from toconv.analysis.records import State
from toconv.errors import DamagedFile, told
from toconv.sweep.inbox import Act, Note, includes

FINALISTS, EXTENDED = "finalists", "extended"  # their studies, which no cell may be called
NO_CELLS = {FINALISTS: 1, EXTENDED: 2}  # which come last
WAIT_SECONDS = 5.0  # for a driver that writes in that moment
STATES = {  # by Optuna's name
    "RUNNING": State.RUNNING,
    "COMPLETE": State.COMPLETE,
    "PRUNED": State.PRUNED,
    "FAIL": State.FAILED,
}
REMEDY = "the sweep's own command says what to do"


class Facts(BaseModel, extra="ignore"):
    """What the ledger keeps of a trial beside Optuna's own."""

    trial_id: str
    cell: str | None = None  # of a finalist
    params: dict[str, Any] | None = None  # of a finalist, and of what began before the sweep's file changed
    finalist_of: str | None = None
    extends: str | None = None  # the trial_id of a trial that it trains for more epochs
    from_epoch: int | None = None  # the last one of that trial, whose end it begins at; None: it begins anew
    outside: bool = False  # of the space since the sweep's file changed
    began_with: dict[str, Any] | None = None  # the point of start_with whose turn it was
    reason: str | None = None
    overdue: bool = False  # it failed since its time was over
    seal: dict[str, str] | None = None
    steered: tuple[Note, ...] = ()  # who asked for what of it, from outside

    @property
    def skipped(self) -> bool:
        return includes(self.steered, Act.SKIP)

    @property
    def by_hand(self) -> bool:
        """Whether it was entered since somebody asked for it."""
        return includes(self.steered, Act.ADD, Act.RETRY)


@dataclass(frozen=True)
class Seen:
    """A trial of the ledger."""

    study: str  # a cell, or FINALISTS
    number: int  # within its study
    state: State
    began: float  # seconds since the epoch
    searched: Mapping[str, Any]  # what Optuna proposed
    facts: Facts

    @property
    def name(self) -> str:
        return f"{self.study}/{self.number}"

    @property
    def cell(self) -> str:
        return self.facts.cell or self.study


def is_ledger(path: Path, name: str) -> bool:
    """Whether the file holds a study of this sweep. Opening it as a storage of Optuna's would make one."""
    try:
        with _opened(path) as ledger:
            return any(str(row[0]).startswith(f"{name}/") for row in ledger.execute("select study_name from studies"))
    except sqlite3.Error:
        return False


def glance(path: Path, name: str) -> list[Seen]:
    """Every trial of the sweep's ledger, study by study in the order of their numbers; NO_CELLS last. One that was run
    again is there once, as it stands now. [] where there is no file. Raises DamagedFile where it cannot be read."""
    if not path.exists():
        return []
    try:
        with _opened(path) as ledger:
            attributes, params = _attributes(ledger), _params(ledger)
            trials = ledger.execute(
                "select t.trial_id, s.study_name, t.number, t.state, t.datetime_start from trials t "
                "join studies s on s.study_id = t.study_id order by s.study_id, t.number"
            )
            found = [
                Seen(study.removeprefix(f"{name}/"), number, STATES[state], _seconds(began), params[key], facts)
                for key, study, number, state, began in trials
                if (facts := Facts.model_validate(attributes[key]))
            ]
    except (sqlite3.Error, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DamagedFile(path, f"not readable as a ledger ({told(error)})", REMEDY) from error
    last = {seen.facts.trial_id: seen for seen in found}
    return sorted(last.values(), key=lambda seen: NO_CELLS.get(seen.study, 0))


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    address = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS)) as ledger:
        yield ledger


def _attributes(ledger: sqlite3.Connection) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial, key, value in ledger.execute("select trial_id, key, value_json from trial_user_attributes"):
        found[trial][key] = json.loads(value)
    return found


def _params(ledger: sqlite3.Connection) -> dict[int, dict[str, Any]]:
    """As Optuna's distributions have them: a choice is kept by its place among the choices."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    rows = ledger.execute("select trial_id, param_name, param_value, distribution_json from trial_params")
    for trial, key, value, distribution in rows:
        asked = json.loads(distribution)
        choices = asked["attributes"].get("choices")
        whole = asked["name"] == "IntDistribution"
        found[trial][key] = choices[int(value)] if choices else int(value) if whole else value
    return found


def _seconds(began: str) -> float:
    """Optuna writes local time without a zone."""
    return datetime.fromisoformat(began).astimezone(UTC).timestamp()
