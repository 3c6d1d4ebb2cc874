"""The studies of a sweep's ledger in Optuna's storage: one for each cell, one for finalists, one for extensions.

They are named `<sweep>/<cell>`, `<sweep>/finalists` and `<sweep>/extended`."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from toconv.errors import RequestError
from toconv.sweep.search.storage import close, ledger_errors, storage

optuna.logging.set_verbosity(optuna.logging.ERROR)
OF_NO_USE = (  # Optuna's warnings at each reading of a trial: lists come back from its storage as what they were
    "Choices for a categorical distribution should be",
    "The distribution is specified by",  # a step that ends below high, as `Distribution.values` does
)
CONSTRAINT = "constraints:"  # before the names of those that Optuna keeps of a trial


class Studies:
    """By the name of a cell, or of what is no cell; all have the sweep's objectives."""

    def __init__(self, sweep: str, path: Path | None, objectives: Mapping[str, str], wanted: Collection[str]) -> None:
        """Those `wanted` and all that the storage has. The storage is made if it is not there; None: in memory."""
        for message in OF_NO_USE:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        self._sweep, self._path = sweep, path
        self._directions = [optuna.study.StudyDirection[direction.upper()] for direction in objectives.values()]
        self._storage = storage(path)
        with ledger_errors("read"):
            there = [study.study_name for study in self._storage.get_all_studies()]
        names = [*wanted, *(name.removeprefix(f"{sweep}/") for name in there if name.startswith(f"{sweep}/"))]
        self._studies = {name: self._opened(name) for name in dict.fromkeys(names)}

    def _opened(self, name: str) -> optuna.Study:
        with ledger_errors("opened"):
            full = f"{self._sweep}/{name}"
            try:
                return optuna.create_study(
                    storage=self._storage, study_name=full, directions=self._directions, load_if_exists=True
                )
            except ValueError as error:
                raise RequestError(
                    f"{self._path}: holds a study with other objectives ({error}); choose another name="
                ) from error

    def __getitem__(self, name: str) -> optuna.Study:
        return self._studies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._studies)

    def trials(self, name: str) -> list[FrozenTrial]:
        """[] where there is no study of that name yet."""
        with ledger_errors("read"):
            return self._studies[name].get_trials(deepcopy=False) if name in self._studies else []

    def add(self, name: str, trial: FrozenTrial) -> None:
        """In one transaction: it is there with all its parameters, or not at all."""
        if name not in self._studies:
            self._studies[name] = self._opened(name)
        with ledger_errors("written"):
            self._studies[name].add_trial(trial)

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
        with ledger_errors("written"):
            id_, opened = self.trials(name)[number]._trial_id, self._studies[name]._storage
            for key, value in facts.items():
                opened.set_trial_user_attr(id_, key, value)
            for key, excess in constraints.items():
                opened.set_trial_system_attr(id_, f"{CONSTRAINT}{key}", excess)
            opened.set_trial_state_values(id_, state, values)

    def close(self) -> None:
        close(self._storage)
