"""The ledger as its file or database has it, read without Optuna, which takes a second to import. Changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from toconv.analysis.records import State
from toconv.errors import DamagedFile, MachineryError, ToconvError
from toconv.sweep.inbox import Act, Note, includes
from toconv.sweep.search.ledger_place import FIRST_TABLE, LAST_TABLE, Database, LedgerPlace
from toconv.validation import broken_rule

FINALISTS, EXTENDED = "finalists", "extended"  # their studies, which no cell may be called
NO_CELLS = {FINALISTS: 1, EXTENDED: 2}  # which come last
WAIT_SECONDS = 5.0  # for a driver that writes in that moment
STATES = {  # by Optuna's name
    "RUNNING": State.RUNNING,
    "COMPLETE": State.COMPLETE,
    "PRUNED": State.PRUNED,
    "FAIL": State.FAILED,
}
LEDGER_REMEDY = "put a copy of it back, or have the sweep's own command make it anew from what is finished"
REMEDY = "the sweep's own command says what to do"
OF_TRIALS = (  # of the ledger's own: a database has those of others too
    "join trials t on t.trial_id = x.trial_id join studies s on s.study_id = t.study_id "
    "where substr(s.study_name, 1, length(:own)) = :own"
)
Query = Callable[[str], Iterable[tuple[Any, ...]]]  # SQL, in which :own is before the names of the ledger's studies


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


def is_ledger(place: LedgerPlace, name: str) -> bool:
    """Whether a study of this sweep is there. Opening it as a storage of Optuna's would make one. Raises MachineryError
    where a database does not answer."""
    name = place.name if isinstance(place, Database) else name
    try:
        with _opened(place) as query:
            return any(str(row[0]).startswith(f"{name}/") for row in query("select study_name from studies"))
    except sqlite3.Error:
        return False


def no_ledger(place: LedgerPlace, name: str) -> ToconvError:
    """What there is to say of a place where a sweep has its ledger no more."""
    rule = f"must be the ledger of the sweep {name}"
    if isinstance(place, Database):
        return MachineryError(f"{place}: {rule}; {LEDGER_REMEDY}")
    return DamagedFile(place, rule, LEDGER_REMEDY)


def is_there(place: LedgerPlace) -> bool:
    """Whether there is a ledger, damaged or not."""
    return is_ledger(place, place.name) if isinstance(place, Database) else place.exists()


def generations(place: Database) -> list[Database]:
    """What is there of a ledger that was written anew, and of which a driver that was killed left more than one."""
    with _opened(place) as query:
        names = {str(row[0]).partition("/")[0] for row in query("select study_name from studies")}
    found = (Database(place.address, name) for name in sorted(names))
    return [one for one in found if one.own_name == place.own_name]


def glance(place: LedgerPlace, name: str) -> list[Seen]:
    """Every trial of the sweep's ledger, study by study in the order of their numbers; NO_CELLS last. One that was run
    again is there once, as it stands now. [] where there is no file, or its tables are still to be made. Raises
    DamagedFile where it cannot be read, MachineryError where a database does not answer."""
    path, name = (place, name) if isinstance(place, Path) else (Path(place.name), place.name)
    if place == path and not path.exists():
        return []
    try:
        with _opened(place) as query:
            attributes, params = _attributes(query), _params(query)
            trials = query(
                f"select t.trial_id, s.study_name, t.number, t.state, t.datetime_start from trials x {OF_TRIALS} "
                "order by s.study_id, t.number"
            )
            found = [
                Seen(study.removeprefix(f"{name}/"), number, STATES[state], _seconds(began), params[key], facts)
                for key, study, number, state, began in trials
                if (facts := Facts.model_validate(attributes[key]))
            ]
    except (sqlite3.Error, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DamagedFile(path, f"not readable as a ledger ({broken_rule(error)})", REMEDY) from error
    last = {seen.facts.trial_id: seen for seen in found}
    return sorted(last.values(), key=lambda seen: NO_CELLS.get(seen.study, 0))


def glance_at_rest(place: LedgerPlace, name: str) -> list[Seen]:
    """As `glance`, of a sweep that nothing runs, whose ledger is to be there: raises also where it is gone."""
    found = glance(place, name)
    if not found and not is_there(place):
        raise no_ledger(place, name)
    return found


@contextmanager
def _opened(place: LedgerPlace) -> Iterator[Query]:
    if isinstance(place, Database):
        from toconv.sweep.search.postgresql import reading  # start-up: SQLAlchemy

        with reading(place) as query:
            yield query
        return
    address = f"{place.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=WAIT_SECONDS, isolation_level=None)) as ledger:
        ledger.execute("begin")  # all queries see one state, whatever a driver writes between two of them
        made = {name for (name,) in ledger.execute("select name from sqlite_master")}
        if not made or (FIRST_TABLE in made and LAST_TABLE not in made):
            yield lambda sql: iter(())
            return
        yield lambda sql: ledger.execute(sql, {"own": ""})  # all that the file holds


def _attributes(query: Query) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial, key, value in query(f"select x.trial_id, x.key, x.value_json from trial_user_attributes x {OF_TRIALS}"):
        found[trial][key] = json.loads(value)
    return found


def _params(query: Query) -> dict[int, dict[str, Any]]:
    """As Optuna's distributions have them: a choice is kept by its place among the choices."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    rows = query(f"select x.trial_id, x.param_name, x.param_value, x.distribution_json from trial_params x {OF_TRIALS}")
    for trial, key, value, distribution in rows:
        asked = json.loads(distribution)
        choices = asked["attributes"].get("choices")
        whole = asked["name"] == "IntDistribution"
        found[trial][key] = choices[int(value)] if choices else int(value) if whole else value
    return found


def _seconds(began: str | datetime) -> float:
    """Optuna writes local time without a zone."""
    return datetime.fromisoformat(str(began)).astimezone(UTC).timestamp()
