"""How a sweep stands, for whoever looks from outside while it runs or afterwards: read from its folder, without its
driver, Ray, Optuna or torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import ValidationError

from toconv.analysis.records import State, label
from toconv.errors import RequestError
from toconv.paths import OUTPUTS, SweepPaths
from toconv.progress import duration
from toconv.settings import EPOCHS
from toconv.sweep.inbox import Inbox
from toconv.sweep.running import AT_WORK, Running, Standing, running, standing
from toconv.sweep.search.glance import NO_CELLS, Seen, glance, glance_at_rest
from toconv.sweep.search.ledger_place import recorded_place
from toconv.training.epochs import ROW, Epoch, read_epochs

MOST_FAILED = 5  # failures that are told of


@dataclass(frozen=True)
class TrialStatus:
    name: str
    trial_id: str
    state: State
    settings: str  # what was searched
    epoch: int
    epochs: int  # that it is trained for; 0 where its sweep's driver did not tell
    distortion: float | None
    seconds: float  # of training so far
    seconds_left: float | None  # of one that has an epoch behind it and has not ended
    reason: str | None


@dataclass(frozen=True)
class Status:
    name: str
    standing: Standing
    running: Running | None  # what its last driver told
    seconds_left: float | None
    counts: dict[str, int]  # by State
    best: dict[str, TrialStatus]  # by cell, of complete trials
    open: list[TrialStatus]  # begun and not ended
    failed: list[TrialStatus]
    asked: list[str]  # of the sweep from outside, and not answered yet or in force

    @property
    def at_work(self) -> bool:
        return self.standing in AT_WORK

    @property
    def ended(self) -> str:
        """`3/8 trials ended`, of all that are planned where that is known."""
        count = sum(count for state, count in self.counts.items() if state != State.RUNNING)
        told = self.running.planned if self.running else 0
        planned = max(told, sum(self.counts.values()))  # some have begun in place of failed ones since the driver told
        return f"{count}/{planned} trials ended" if told else f"{count} trials ended"

    def as_json(self) -> dict[str, Any]:
        """Times are seconds since the epoch."""
        found = asdict(replace(self, running=None))
        del found["running"]
        return {**found, **(self.running.model_dump(mode="json") if self.running else {})}


def sweeps() -> list[SweepPaths]:
    """Those of the working directory's outputs folder, by name."""
    found = {path.parent for name in ("sweep.yaml", "running.json") for path in OUTPUTS.resolve().glob(f"*/{name}")}
    return [SweepPaths(root) for root in sorted(found)]


def look(paths: SweepPaths) -> Status:
    """Raises RequestError where there is no sweep of that name, DamagedFile where its ledger cannot be read or, of one
    that nothing runs, is gone; MachineryError where its database does not answer, or has it no more."""
    told = running(paths)
    if told is None and not paths.request.exists():
        there = ", ".join(found.root.name for found in sweeps())
        raise RequestError(
            f"{paths.root}: holds no sweep; " + (f"there are {there}" if there else f"{OUTPUTS.resolve()} holds none")
        )
    now = standing(paths, told)
    looks = glance_at_rest if now not in AT_WORK and paths.request.exists() else glance
    seen = [(s, _trial(paths, s, told)) for s in looks(recorded_place(paths), paths.root.name)]
    trials = [trial for _, trial in seen]
    return Status(
        name=paths.root.name,
        standing=now,
        running=told,
        seconds_left=_seconds_left(told, trials) if told and now is Standing.RUNNING else None,
        counts=dict(Counter(t.state for t in trials)),
        best=_best(seen),
        open=[t for t in trials if t.state is State.RUNNING],
        failed=[t for t in trials if t.state is State.FAILED],
        asked=[f"{asked.what}, {asked.by}" for asked in Inbox(paths).waiting()],
    )


def _trial(paths: SweepPaths, seen: Seen, told: Running | None) -> TrialStatus:
    """One that draws its epochs has them itself, as an extension has."""
    last, state = _last(paths.trial(seen.facts.trial_id).metrics), seen.state
    params, left = seen.facts.params or seen.searched, None
    epochs = int(params.get(EPOCHS, told.epochs_of.get(seen.cell, told.epochs) if told else 0))
    if state is State.RUNNING and last and epochs:
        since = max(0.0, time.time() - last.timestamp / 1000)
        left = max(0.0, last.seconds / last.epoch * (epochs - last.epoch) - since)
    return TrialStatus(
        name=seen.name,
        trial_id=seen.facts.trial_id,
        state=state,
        settings=label(params),
        epoch=last.epoch if last else 0,
        epochs=epochs,
        distortion=last.metrics["distortion"] if last else None,
        seconds=last.seconds if last else 0.0,
        seconds_left=left,
        reason=seen.facts.reason,
    )


def _last(metrics: Path) -> Epoch | None:
    """The last epoch; of a file with thousands the last line alone is parsed, where it is whole."""
    lines = metrics.read_bytes().splitlines() if metrics.is_file() else []
    try:
        return ROW.validate_json(lines[-1]) if lines else None
    except ValidationError:
        return next(reversed(read_epochs(metrics)), None)


def _best(seen: Iterable[tuple[Seen, TrialStatus]]) -> dict[str, TrialStatus]:
    """Finalists and extensions are no candidates: they are trials once more."""
    found: dict[str, TrialStatus] = {}
    for at, trial in seen:
        if trial.state is State.COMPLETE and at.study not in NO_CELLS and trial.distortion is not None:
            before = found.get(at.cell)
            if before is None or before.distortion is None or trial.distortion < before.distortion:
                found[at.cell] = trial
    return found


def _seconds_left(told: Running, trials: Iterable[TrialStatus]) -> float | None:
    """By the mean pace of all epochs so far, with every slot busy."""
    trials = list(trials)
    done = sum(t.epoch for t in trials)
    if not done or told.left is None or not told.slots:
        return None
    begun = [t.epochs - t.epoch for t in trials if t.state is State.RUNNING]
    each = mean(told.epochs_of.values() or [told.epochs])
    to_do = sum(begun) + (told.left - len(begun)) * each
    return max(0.0, sum(t.seconds for t in trials) / done * to_do / min(told.slots, max(1, told.left)))


def lines(status: Status) -> list[str]:
    """The status in words."""
    found = [f"{status.name}: {_headline(status)}", f"  {_counted(status)}"]
    if status.running and status.running.error:
        found.append(f"  ended by: {status.running.error}")
    for trial in status.open:
        found.append(f"  {trial.name} ({trial.trial_id}): {_course(trial, status)}; {trial.settings}")
    for cell, best in status.best.items():
        found.append(f"  best of {cell}: {best.distortion:.4f}, {best.name} ({best.trial_id}); {best.settings}")
    for trial in status.failed[:MOST_FAILED]:
        found.append(f"  failed: {trial.name} ({trial.trial_id}): {trial.reason}")
    if len(status.failed) > MOST_FAILED:
        found.append(f"  and {len(status.failed) - MOST_FAILED} more failed; --json names all")
    return [*found, *(f"  asked: {asked}" for asked in status.asked)]


def _headline(status: Status) -> str:
    told = status.running
    if told is None:
        return f"{status.standing} whether it runs: it was started by an earlier version"
    who = f"process {told.pid} on {told.host}" + (f", started by {told.user}" if told.user else "")
    if status.at_work:
        return f"{status.standing} since {_clock(told.since)} ({duration(time.time() - told.since)}), {who}"
    ended = f" at {_clock(told.until)}" if told.until else ", without a word"
    return f"{status.standing}{ended}; {who}, began at {_clock(told.since)}"


def _counted(status: Status) -> str:
    if not status.counts and status.at_work:
        return "no trial yet: tokens are encoded or baselines measured first"
    parts = ", ".join(f"{count} {state}" for state, count in sorted(status.counts.items()) if state != State.RUNNING)
    told = [f"{status.ended} ({parts})" if parts else status.ended]
    if status.open:
        told.append(f"{len(status.open)} {'running' if status.at_work else 'unfinished'}")
    if status.seconds_left is not None:
        told.append(f"about {duration(status.seconds_left)} left")
    return "; ".join(told)


def _course(trial: TrialStatus, status: Status) -> str:
    told = [f"epoch {trial.epoch}/{trial.epochs}" if trial.epochs else f"epoch {trial.epoch}"]
    if trial.distortion is not None:
        told.append(f"distortion {trial.distortion:.4f}")
    if trial.seconds_left is not None and status.at_work:
        told.append(f"about {duration(trial.seconds_left)} left")
    return ", ".join(told)


def _clock(seconds: float) -> str:
    """Local time; the date too where it is not today's."""
    when, today = time.localtime(seconds), time.localtime()
    return time.strftime("%H:%M:%S" if when[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", when)
