"""The studies of a sweep's ledger in Optuna's storage: one for each cell, one for finalists, one for extensions.

They are named `<ledger>/<cell>`, `<ledger>/finalists` and `<ledger>/extended`. A ledger in a file is called as its
sweep."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from toconv.errors import RequestError
from toconv.sweep.search.ledger_place import Database, LedgerPlace
from toconv.sweep.search.storage import FileStorage, Storage

optuna.logging.set_verbosity(optuna.logging.ERROR)
OF_NO_USE = (  # Optuna's warnings at each reading of a trial: lists come back from its storage as what they were
    "Choices for a categorical distribution should be",
    "The distribution is specified by",  # a step that ends below high, as `Distribution.values` does
)
CONSTRAINT = "constraints:"  # before the names of those that Optuna keeps of a trial


class Studies:
    """By the name of a cell, or of what is no cell; all have the sweep's objectives."""

    def __init__(
        self,
        sweep: str,
        place: LedgerPlace | None,
        objectives: Mapping[str, str],
        wanted: Collection[str],
        writes: bool = True,
    ) -> None:
        """Those `wanted` and all that the storage has. A file is made if it is not there; None: in memory. Who does not
        write to a database finds what is there."""
        for message in OF_NO_USE:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        self._name, self._place = place.name if isinstance(place, Database) else sweep, place
        self._directions = [optuna.study.StudyDirection[direction.upper()] for direction in objectives.values()]
        self._storage, self._writes = _storage(place, writes), writes
        self._as_written = dict[str, list[FrozenTrial]]()
        there = self._storage.tried("read", lambda _: self._there())
        names = there if isinstance(place, Database) and not writes else [*wanted, *there]
        self._studies = {name: self._opened(name) for name in dict.fromkeys(names)}
        self._storage.claim()

    def _there(self) -> list[str]:
        known = (study.study_name for study in self._storage.optuna.get_all_studies())
        return [name.removeprefix(f"{self._name}/") for name in known if name.startswith(f"{self._name}/")]

    def _opened(self, name: str) -> optuna.Study:
        return self._storage.tried("opened", lambda _: self._study(f"{self._name}/{name}"))

    def _study(self, name: str) -> optuna.Study:
        storage = self._storage.optuna
        try:
            if isinstance(self._place, Database) and name.removeprefix(f"{self._name}/") in self._there():
                return optuna.load_study(storage=storage, study_name=name)
            return optuna.create_study(
                storage=storage, study_name=name, directions=self._directions, load_if_exists=True
            )
        except ValueError as error:
            raise RequestError(
                f"{self._place}: holds a study with other objectives ({error}); choose another name="
            ) from error

    def __getitem__(self, name: str) -> optuna.Study:
        return self._studies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._studies)

    def trials(self, name: str) -> list[FrozenTrial]:
        """[] where there is no study of that name yet. Who alone writes a study knows what it holds after each write,
        and reads it again after the next: to look costs a query that all open trials answer."""
        if name not in self._studies:
            return []
        if name not in self._as_written:
            found = self._storage.tried("read", lambda _: self._read(name))
            if not self._writes:
                return found
            self._as_written[name] = found
        return [*self._as_written[name]]

    def _read(self, name: str) -> list[FrozenTrial]:
        return self._studies[name].get_trials(deepcopy=False)

    def _write(self, name: str, enter: Callable[[bool], None]) -> None:
        self._as_written.pop(name, None)
        self._storage.tried("written", enter)

    def add(self, name: str, trial: FrozenTrial) -> None:
        """In one transaction: it is there with all its parameters, or not at all."""
        if name not in self._studies:
            self._studies[name] = self._opened(name)
        known = len(self.trials(name))

        def enter(again: bool) -> None:
            if not again or len(self._read(name)) == known:  # nobody else enters any
                self._studies[name].add_trial(trial)

        self._write(name, enter)

    def tell(
        self,
        name: str,
        number: int,
        state: TrialState,
        values: list[float] | None,
        facts: Mapping[str, Any],
        constraints: Mapping[str, float],
    ) -> None:
        """How a trial ended. `constraints`: by how much bounds are missed, where Optuna's samplers read it
        (`Trial.set_constraint`)."""
        known = self.trials(name)

        def enter(again: bool) -> None:
            trial, opened = (self._read(name) if again else known)[number], self._studies[name]._storage
            if again and trial.state.is_finished():  # which is written last
                return
            for key, value in facts.items():
                opened.set_trial_user_attr(trial._trial_id, key, value)
            for key, excess in constraints.items():
                opened.set_trial_system_attr(trial._trial_id, f"{CONSTRAINT}{key}", excess)
            opened.set_trial_state_values(trial._trial_id, state, values)

        self._write(name, enter)

    def close(self) -> None:
        self._storage.close()


def _storage(place: LedgerPlace | None, writes: bool) -> Storage:
    if isinstance(place, Database):
        from toconv.sweep.search.database import DatabaseStorage  # optional: psycopg

        return DatabaseStorage(place, writes)
    return FileStorage(place)
