"""A sweep goes on, under another file where that changed: ledger and sweep.yaml change together, whatever is killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from toconv.paths import SweepPaths
from toconv.sweep.evaluations import Evaluations
from toconv.sweep.file import Sweep
from toconv.sweep.growth import Change, Identify, touches_ledger
from toconv.sweep.request import check_request, record_request
from toconv.sweep.seal import check_seals
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.regrown import write_grown
from toconv.training.epochs import read_epochs
from toconv.training.identity import trial_id


def go_on(sweep: Sweep, paths: SweepPaths, fingerprint: str, facts: Mapping[str, Any]) -> tuple[Sequence[Change], str]:
    """Write sweep.yaml, and before that a new ledger where the old one's trials lie otherwise in what is asked for now.
    Returns what has changed, and what becomes of those trials. Raises RequestError where it would change what finished
    numbers mean, SealBroken where these are not as they were."""
    earlier, told = check_request(sweep, paths, fingerprint), ""
    settle(paths, len(earlier.growths))
    target = paths.next_study(len(earlier.growths) + 1)
    target.unlink(missing_ok=True)  # of a driver that was killed before sweep.yaml told of it
    if earlier.sweep and paths.study.exists() and touches_ledger(earlier.sweep.file, sweep.file):
        told = _regrow(earlier.sweep, sweep, paths, target, fingerprint)
    settle(paths, record_request(sweep, paths, fingerprint, facts, earlier))
    return earlier.changes, told


def settle(paths: SweepPaths, growths: int) -> None:
    """Put the ledger of so many growths, of which sweep.yaml tells, into its place: it is written before, and moved
    after."""
    with suppress(FileNotFoundError):  # it is there already
        os.replace(paths.next_study(growths), paths.study)


def _regrow(earlier: Sweep, sweep: Sweep, paths: SweepPaths, target: Path, fingerprint: str) -> str:
    was = Ledger(earlier, paths.study, identity(earlier, fingerprint))
    try:
        check_seals(paths, was.trials(), Evaluations(earlier.file, paths))
        count = write_grown(was, sweep, target, identity(sweep, fingerprint), _measured(sweep, paths, was))
    finally:
        was.close()
    return (
        f"{count[True]} of {count.total()} trials so far lie in the space as it is now, and the sampler learns from "
        "these; all stay in the results"
    )


def identity(sweep: Sweep, fingerprint: str) -> Identify:
    return lambda params: trial_id(sweep.settings(params), fingerprint)


def _measured(sweep: Sweep, paths: SweepPaths, was: Ledger) -> Callable[[str], Mapping[str, float]]:
    """All that was measured of a complete trial, as it would be entered now."""
    evaluations = Evaluations(sweep.file, paths)
    params = {t.proposal.trial_id: t.proposal.params for t in was.trials()}

    def measured(known: str) -> Mapping[str, float]:
        epochs, found = read_epochs(paths.trial(known).metrics), evaluations.found(known)
        own = found.metrics if found else {}
        return {**(epochs[-1].metrics if epochs else {}), **own, "tokens": was.sweep.tokens(params[known])}

    return measured
