"""Trials of earlier studies, for the sampler's history alone: `learn_from` of a sweep file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from toconv.config import flat, shown
from toconv.errors import RequestError, first_line
from toconv.paths import SweepPaths
from toconv.redaction import redact
from toconv.sweep.constraints import violations
from toconv.sweep.file import Sweep
from toconv.sweep.growth import lies
from toconv.sweep.recorded import recorded_sweep
from toconv.sweep.search.glance import NO_CELLS, Facts, is_there
from toconv.sweep.search.ledger_place import recorded_place
from toconv.sweep.search.postgresql import check_service_files, url_of
from toconv.sweep.search.sampling import Sampling
from toconv.sweep.search.studies import CONSTRAINT, Studies
from toconv.tracking_address import LIBPQ
from toconv.training.epochs import read_epochs

LEARNT = (TrialState.COMPLETE, TrialState.PRUNED)


class Ended(NamedTuple):
    """A trial of an earlier study."""

    state: TrialState
    settings: Mapping[str, Any]  # by dotted names
    values: Mapping[str, float]  # by objective, and whatever else was measured


@dataclass(frozen=True)
class Learnt:
    """What the sampler is told of beside the sweep's own trials."""

    trials: Mapping[str, Sequence[FrozenTrial]]  # by cell
    told: Sequence[str]  # of each study a sentence


def learn(sweep: Sweep, outputs: Path) -> Learnt:
    """Of what `learn_from` names: sweeps below `outputs`, or addresses of Optuna's studies. Raises RequestError where
    there is none, or one with other objectives."""
    found, told = defaultdict[str, list[FrozenTrial]](list), []
    for name in sweep.file.learn_from:
        ended = _of_study(name, sweep) if "://" in name else _of_sweep(name, sweep, outputs)
        taken = [pair for trial in ended if (pair := _entered(trial, sweep))]
        for cell, trial in taken:
            found[cell].append(trial)
        told.append(
            f"learn_from={name}: {len(taken)} of {len(ended)} trials lie in this space; the sampler learns from them"
        )
    return Learnt(found, told)


def _of_sweep(name: str, sweep: Sweep, outputs: Path) -> list[Ended]:
    paths = SweepPaths(outputs / name)
    if name == sweep.file.name:
        raise RequestError(f"learn_from={name}: is this very sweep, whose own trials are learnt from in any case")
    try:
        theirs, _ = recorded_sweep(paths)
    except RequestError as error:
        raise RequestError(f"learn_from={name}: {error}") from None
    _check_objectives(name, dict(theirs.file.objectives), sweep)
    place = recorded_place(paths)
    if not is_there(place):
        return []
    studies = Studies(name, place, theirs.file.objectives, (), writes=False)
    try:
        return [*_ended(studies, theirs, paths)]
    finally:
        studies.close()


def _ended(studies: Studies, theirs: Sweep, paths: SweepPaths) -> Iterator[Ended]:
    cells = {cell.name: cell.fixed for cell in theirs.cells()}
    for study in (name for name in studies if name not in NO_CELLS):
        for trial in (t for t in studies.trials(study) if t.state in LEARNT):
            facts = Facts.model_validate(trial.user_attrs)
            params = facts.params or {**cells.get(study, {}), **trial.params}
            epochs = read_epochs(paths.trial(facts.trial_id).metrics)
            values = dict(zip(theirs.file.objectives, trial.values or (), strict=False))
            settings = flat(theirs.settings(params).model_dump(mode="json"))
            yield Ended(trial.state, settings, {**(epochs[-1].metrics if epochs else {}), **values})


def _of_study(address: str, sweep: Sweep) -> list[Ended]:
    """Of `URL` where that holds one study, or `URL#STUDY`."""
    url, _, name = address.partition("#")
    study = _opened(address, url, name)
    names, directions = study.metric_names, [direction.name.lower() for direction in study.directions]
    if names is None:
        raise RequestError(
            f"learn_from={redact(address)}: its study does not say what it measured; study.set_metric_names("
            f"{list(sweep.file.objectives)}) does, where it is that"
        )
    _check_objectives(redact(address), dict(zip(names, directions, strict=True)), sweep)
    trials = study.get_trials(deepcopy=False, states=LEARNT)
    return [Ended(t.state, t.params, dict(zip(names, t.values or (), strict=False))) for t in trials]


def _opened(address: str, url: str, name: str) -> optuna.Study:
    """What is opened is read, and no table is made in it."""
    kind, _, path = url.partition("://")
    file = Path(path.removeprefix("/").partition("?")[0])
    if kind.partition("+")[0].lower() == "sqlite" and not file.is_file():
        raise RequestError(f"learn_from={redact(address)}: no such file {file}")
    if kind.lower() == LIBPQ:
        raise RequestError(f"learn_from={redact(address)}: must be postgresql://, not postgres://")
    if kind.partition("+")[0].lower() == "postgresql":
        check_service_files(f"learn_from={address}")
        url = url_of(url, "learn_from").render_as_string(hide_password=False)
    try:
        storage = optuna.storages.RDBStorage(url, skip_table_creation=True)
        there = optuna.get_all_study_names(storage)
        if name in there or (not name and len(there) == 1):
            return optuna.load_study(study_name=name or there[0], storage=storage)
    except Exception as error:  # SQLAlchemy's many
        why = first_line(error.__cause__ or error)
        raise RequestError(f"learn_from={redact(address)}: cannot be read ({redact(why)})") from error
    raise RequestError(
        f"learn_from={redact(address)}: must name one study, as URL#STUDY; there are {', '.join(there) or 'none'}"
    )


def _check_objectives(name: str, theirs: Mapping[str, str], sweep: Sweep) -> None:
    ours = dict(sweep.file.objectives)
    if theirs != ours:
        raise RequestError(
            f"learn_from={name}: its objectives are {shown(dict(theirs))}, must be those of this sweep, {shown(ours)}"
        )


def _entered(ended: Ended, sweep: Sweep) -> tuple[str, FrozenTrial] | None:
    """As a trial of the cell and the space that it lies in; None where it lies in none, or where a constraint of the
    sweep was not measured of it."""
    home, point = lies(sweep, ended.settings)
    bounds = sweep.file.constraints
    missed = violations(bounds, ended.values)
    is_complete = ended.state is TrialState.COMPLETE
    if home is None or point is None or (is_complete and len(missed) < len(bounds)):
        return None
    given: dict[str, Any] = {"params": point, "distributions": Sampling(sweep, ()).distributions(point)}
    if is_complete:
        given["values"] = [float(ended.values[name]) for name in sweep.file.objectives]
        given["system_attrs"] = {f"{CONSTRAINT}{key}": by for key, by in missed.items()}
    return home.name, create_trial(state=ended.state, **given)
