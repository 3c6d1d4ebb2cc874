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
from toconv.sweep.recorded import fresh_id
from toconv.sweep.request import Earlier, check_request, record_request
from toconv.sweep.seal import check_seals
from toconv.sweep.search.glance import generations, is_there
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.ledger_place import Database, LedgerPlace, recorded_place
from toconv.sweep.search.regrown import write_grown
from toconv.training.epochs import read_epochs
from toconv.training.identity import trial_id


def go_on(sweep: Sweep, paths: SweepPaths, fingerprint: str, facts: Mapping[str, Any]) -> tuple[Sequence[Change], str]:
    """Write sweep.yaml, and before that a new ledger where the old one's trials lie otherwise in what is asked for now.
    Returns what has changed, and what becomes of those trials. Raises RequestError where it would change what finished
    numbers mean, SealBroken where these are not as they were."""
    earlier, told = check_request(sweep, paths, fingerprint), ""
    settle(paths, len(earlier.growths))
    was = ledger = _place(sweep, paths, earlier)
    target = _grown(was, paths, len(earlier.growths) + 1)
    if isinstance(target, Path):
        target.unlink(missing_ok=True)  # of a driver that was killed before sweep.yaml told of it
    if earlier.sweep and is_there(was) and touches_ledger(earlier.sweep.file, sweep.file):
        _drop(target)
        told = _regrow(earlier.sweep, sweep, paths, (was, target), fingerprint)
        ledger = target
    settle(paths, record_request(sweep, paths, fingerprint, facts, earlier, ledger))
    _drop_older(ledger)
    return earlier.changes, told


def _place(sweep: Sweep, paths: SweepPaths, earlier: Earlier) -> LedgerPlace:
    """Where the ledger of what is asked for lies now; a database may have got another address. A new one in a database
    is called by the sweep's id."""
    address, recorded = sweep.file.storage.study, recorded_place(paths)
    if address is None:
        return paths.study
    if isinstance(recorded, Database):
        return Database(address, recorded.name)
    return Database(address, earlier.id or fresh_id(sweep.file.name))


def _grown(was: LedgerPlace, paths: SweepPaths, growths: int) -> LedgerPlace:
    return was.grown(growths) if isinstance(was, Database) else paths.next_study(growths)


def _drop(ledger: LedgerPlace) -> None:
    """One in a database, of which sweep.yaml does not tell: it was written anew, or by a driver that was killed."""
    if isinstance(ledger, Database) and is_there(ledger):
        from toconv.sweep.search.database import drop  # optional: psycopg

        drop(ledger)


def _drop_older(ledger: LedgerPlace) -> None:
    """What it was before it was written anew."""
    if isinstance(ledger, Database):
        for found in generations(ledger):
            if found.growths < ledger.growths:
                _drop(found)


def settle(paths: SweepPaths, growths: int) -> None:
    """Put the ledger of so many growths, of which sweep.yaml tells, into its place: a file is written before, and moved
    after; of one in a database sweep.yaml has the name."""
    with suppress(FileNotFoundError):  # it is there already
        os.replace(paths.next_study(growths), paths.study)


def _regrow(
    earlier: Sweep, sweep: Sweep, paths: SweepPaths, places: tuple[LedgerPlace, LedgerPlace], fingerprint: str
) -> str:
    """From one place to another one."""
    place, target = places
    was = Ledger(earlier, place, identity(earlier, fingerprint), writes=False)
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
