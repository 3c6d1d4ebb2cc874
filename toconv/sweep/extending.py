"""Trials that are trained for more epochs, on request: which they are, and where each begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from toconv.analysis.records import State
from toconv.errors import RequestError
from toconv.paths import SweepPaths
from toconv.settings import EPOCHS
from toconv.sweep.file import Sweep
from toconv.sweep.inbox import Asked
from toconv.sweep.proposals import Proposal, Trial

BEST = re.compile(r"best:([1-9][0-9]{0,5})")  # so many of each cell, by the first objective


def extension(proposal: Proposal, epochs: int) -> str:
    """How a trial came to its epochs: `16 epochs: from the end of 1a2b3c4d5e6f, epoch 8, with the schedule begun anew`;
    empty where it trained as every trial."""
    if proposal.extends is None:
        return ""
    if proposal.from_epoch is None:
        return f"{epochs} epochs: as {proposal.extends}, anew from the start"
    end = f"the end of {proposal.extends}, epoch {proposal.from_epoch}"
    return f"{epochs} epochs: from {end}, with the schedule begun anew"


def kept_for_more_epochs(trials: Sequence[Trial]) -> set[str]:
    """The trial_ids whose checkpoints stay: extensions that are complete, and those whose end an open one begins at."""
    complete = {t.proposal.trial_id for t in trials if t.proposal.extends and t.state is State.COMPLETE}
    return complete | {t.proposal.extends for t in trials if t.proposal.extends and not t.ended}


def extensions(
    asked: Asked, sweep: Sweep, paths: SweepPaths, trials: Sequence[Trial], identify: Callable[..., str]
) -> list[Proposal]:
    """What was asked for and is not in the sweep yet. Raises RequestError that names every trial that cannot be
    extended, and why."""
    chosen, epochs = _chosen(asked, sweep, trials), asked.count or 0
    mistakes = [mistake for t in chosen if (mistake := _mistake(t, epochs, asked, sweep, paths))]
    if mistakes:
        raise RequestError(*mistakes)
    there, found = {t.proposal.trial_id for t in trials}, dict[str, Proposal]()
    for of in (t.proposal for t in chosen):
        params = {**of.params, EPOCHS: epochs}
        id_ = identify(params) if asked.anew else identify(params, of.trial_id)
        if id_ not in there:
            start = None if asked.anew else sweep.epochs(of.params)
            found[id_] = replace(
                of, trial_id=id_, params=params, finalist_of=None, extends=of.trial_id, from_epoch=start
            )
    return [*found.values()]


def _chosen(asked: Asked, sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    (first, direction), *_ = sweep.file.objectives.items()
    complete = [t for t in trials if t.is_searched(State.COMPLETE)]
    complete.sort(key=lambda t: t.values[first], reverse=direction == "maximize")
    found: list[Trial] = []
    for text in asked.trials:
        if best := BEST.fullmatch(text):
            cells = dict.fromkeys(t.proposal.cell for t in trials)
            found += [t for c in cells for t in [t for t in complete if t.proposal.cell == c][: int(best[1])]]
        else:
            found += [t for t in trials if text in {t.proposal.name, t.proposal.trial_id}]
    return [*{t.proposal.trial_id: t for t in found}.values()]


def _mistake(trial: Trial, epochs: int, asked: Asked, sweep: Sweep, paths: SweepPaths) -> str | None:
    name, reached = trial.proposal.name, sweep.epochs(trial.proposal.params)
    if trial.state is not State.COMPLETE:
        return f"--trials {name}: is {trial.state}; only a complete trial is extended"
    if epochs <= reached:
        return f"--epochs {epochs}: must be more than the {reached} of {name}"
    if not asked.anew and not paths.trial(trial.proposal.trial_id).latest.exists():
        return (
            f"--trials {name}: its checkpoint was not kept (those of the front and of what is recommended are); --anew"
        )
    return None
