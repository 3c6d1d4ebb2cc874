"""Whether what is asked of a sweep from outside can be done: looked at by whoever asks, and by its driver once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toconv.analysis.records import State
from toconv.config import shown
from toconv.errors import RequestError
from toconv.sweep.extending import BEST
from toconv.sweep.file import Cell, Sweep
from toconv.sweep.inbox import Act, Asked
from toconv.sweep.space import Params, active_only, point_mistakes

Known = Sequence[tuple[str, str, State]]  # name, trial_id and state of each trial


def refusal(asked: Asked, sweep: Sweep, trials: Known) -> str | None:
    """The rule that it breaks, and the value."""
    if asked.act is Act.ADD:
        return _add_refusal(sweep, asked.params)
    if asked.act is Act.SLOTS and not asked.count:
        return "slots: needs a number of trials at a time, at least 1"
    if asked.act is Act.EXTEND:
        return _extend_refusal(asked, sweep, trials)
    if asked.act in {Act.STOP, Act.SKIP}:
        return _trial_refusal(asked, trials, {State.RUNNING})
    if asked.act is Act.RETRY and asked.trial:
        return _trial_refusal(asked, trials, {State.FAILED})
    if asked.act is Act.RETRY and not any(state is State.FAILED for _, _, state in trials):
        return "retry: no trial has failed"
    return None


def _extend_refusal(asked: Asked, sweep: Sweep, trials: Known) -> str | None:
    if (asked.count or 0) <= sweep.base.training.epochs:
        return f"--epochs {asked.count}: must be more than the {sweep.base.training.epochs} of the sweep's trials"
    complete = {word for name, trial_id, state in trials if state is State.COMPLETE for word in (name, trial_id)}
    wrong = [word for word in asked.trials if word not in complete and not BEST.fullmatch(word)]
    if wrong or not asked.trials or not complete:
        there = ", ".join(name for name, _, state in trials if state is State.COMPLETE)
        return f"--trials {' '.join(wrong)}: must be best:N or complete trials, which are {there or 'none'}"
    return None


def _trial_refusal(asked: Asked, trials: Known, wanted: set[State]) -> str | None:
    states = [state for name, trial_id, state in trials if asked.trial in {name, trial_id}]
    if not states:
        there = ", ".join(name for name, _, state in trials if state in wanted)
        return f"--trial {asked.trial}: no such trial; {', '.join(sorted(wanted))} are {there or 'none'}"
    if states[0] not in wanted:
        return f"--trial {asked.trial}: is {states[0]}; {asked.act} is for one that is {', '.join(sorted(wanted))}"
    return None


def _add_refusal(sweep: Sweep, params: Mapping[str, Any]) -> str | None:
    try:
        cell, point = cell_of(sweep, params)
    except RequestError as error:
        return str(error)
    mistakes = point_mistakes(sweep.file.search, point) if sweep.file.search else []
    if not sweep.file.search:
        return "add: the sweep searches nothing, so that each cell has its one trial already"
    kept = active_only(sweep.file.search, sweep.known(cell), point)
    mistakes += [
        f"{key}={shown(point[key])}: is searched only where {_listed(sweep.file.search[key].when)}; give that too"
        for key in point
        if key in sweep.file.search and key not in kept
    ]
    return "; ".join(mistakes) or None


def cell_of(sweep: Sweep, params: Mapping[str, Any]) -> tuple[Cell, Params]:
    """The one cell that has these values of what is enumerated, and the rest. Raises RequestError where there are
    several, or none."""
    enumerated = {key: value for key, value in params.items() if key in sweep.file.grid}
    cells = [cell for cell in sweep.cells() if enumerated.items() <= cell.fixed.items()]
    if len(cells) != 1:
        axes = "; ".join(f"{key} of {', '.join(map(shown, values))}" for key, values in sweep.file.grid.items())
        raise RequestError(f"add: {len(cells)} cells have {_listed(enumerated) or 'no value given'}; name one: {axes}")
    return cells[0], {key: value for key, value in params.items() if key not in enumerated}


def _listed(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={shown(value)}" for key, value in values.items())
