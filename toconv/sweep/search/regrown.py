"""A ledger written anew for a sweep whose file has changed: each trial in the cell and the space where it lies now.

Optuna keeps a setting's choices, and a study's objectives, for ever, and its samplers take an older trial into account
only where it was drawn from the very same distributions. So the trials that the new space could have proposed are
entered as drawn from it; the others are entered without, for the results alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from toconv.errors import RequestError
from toconv.sweep.constraints import violations
from toconv.sweep.file import Sweep
from toconv.sweep.growth import Identify, Place, place
from toconv.sweep.search.glance import NO_CELLS, Facts
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.ledger_place import LedgerPlace
from toconv.sweep.search.sampling import Sampling
from toconv.sweep.search.studies import CONSTRAINT

Measured = Callable[[str], Mapping[str, float]]  # all that was measured of the trial of this id


def write_grown(was: Ledger, now: Sweep, target: LedgerPlace, identify: Identify, measured: Measured) -> Counter[bool]:
    """All trials of the ledger `was` into a new one at `target`; returns how many of the search lie in its space, and
    how many do not. Raises RequestError where an objective of `now` was not measured of them."""
    ledger, sampling, cells, count = Ledger(now, target, identify), Sampling(now, ()), dict[str, str](), Counter[bool]()
    try:
        for study, trial in was.kept():
            facts = Facts.model_validate(trial.user_attrs)
            params = facts.params or {**was.fixed(study), **trial.params}
            lies = place(was.sweep, now, params, facts.trial_id, facts.cell or study, identify)
            if study in NO_CELLS:  # in no space, and in the cell of what it repeats
                lies = Place(cells.get(facts.finalist_of or facts.extends or "", lies.cell), lies.params, None)
            else:
                count[lies.point is not None] += 1
            cells[facts.trial_id] = lies.cell
            found = measured(facts.trial_id) if trial.state is TrialState.COMPLETE else {}
            ledger.take(study if study in NO_CELLS else lies.cell, _entered(trial, lies, now, sampling, found))
    finally:
        ledger.close()
    return count


def _entered(
    trial: FrozenTrial, lies: Place, now: Sweep, sampling: Sampling, measured: Mapping[str, float]
) -> FrozenTrial:
    point, is_complete = lies.point or {}, trial.state is TrialState.COMPLETE
    facts: dict[str, Any] = {**trial.user_attrs, "params": lies.params}
    facts |= {"cell": lies.cell} if "cell" in facts else {"outside": lies.point is None}
    system = {key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)}
    if is_complete:
        system |= {f"{CONSTRAINT}{key}": by for key, by in violations(now.file.constraints, measured).items()}
    return FrozenTrial(
        number=trial.number,
        trial_id=-1,  # the new storage gives one
        state=trial.state,
        value=None,
        values=_values(facts["trial_id"], now, measured) if is_complete else None,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=point,
        distributions=sampling.distributions(point),
        user_attrs=facts,
        system_attrs=system,
        intermediate_values={},
    )


def _values(trial_id: str, now: Sweep, measured: Mapping[str, float]) -> list[float]:
    if lacking := [name for name in now.file.objectives if name not in measured]:
        raise RequestError(
            f"objectives.{lacking[0]}: was not measured of trial {trial_id}, which ended before; have it measured "
            "first, with evaluation and the objectives as they were, or choose another name="
        )
    return [float(measured[name]) for name in now.file.objectives]
