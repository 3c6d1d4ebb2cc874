"""The sweep in the terminal: a live table, or plain lines where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.live import Live

from toconv.analysis.records import State, label
from toconv.progress import LIVE, console, duration
from toconv.sweep.driver import Driver
from toconv.sweep.proposals import Proposal, Trial
from toconv.sweep.terminal.live_table import WAITING, CellState, Line, View, fitted, time_left
from toconv.sweep.terminal.utilization import Utilization
from toconv.training.epochs import Epoch

REFRESH_SECONDS = 0.5
EVALUATED = "evaluated now"  # trained, and at work with the user's own evaluation
SHARE = 0.05  # of the driver's time that drawing may take
SILENCE_SECONDS = 20.0  # after so long without a plain line one tells how far running trials are


class Display:
    """Call `update` as often as you like."""

    def __init__(self, driver: Driver, utilization: Utilization) -> None:
        self._driver, self._utilization = driver, utilization
        self._epochs = driver.sweep.base.training.epochs
        self._start = self._spoke = time.monotonic()
        self._last, self._pause = 0.0, REFRESH_SECONDS
        self._epochs_before = self._epochs_done()
        self._told: dict[str, State] = {  # by trial_id, in the order in which trials ended
            t.proposal.trial_id: t.state for t in driver.ledger.trials() if t.ended
        }
        self._size = console.size
        self._live = Live(console=console, auto_refresh=False, transient=True) if LIVE else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update(force=True)
        if self._live:
            self._live.stop()

    def update(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last < self._pause:
            return
        trials = self._driver.ledger.trials()
        ended = [t for t in trials if t.ended and t.proposal.trial_id not in self._told]
        self._told |= {t.proposal.trial_id: t.state for t in ended}
        if self._live:
            self._draw(self._live, trials)
        else:
            self._speak(trials, ended)
        self._last = time.monotonic()
        self._pause = max(REFRESH_SECONDS, (self._last - now) / SHARE)

    def _draw(self, live: Live, trials: Sequence[Trial]) -> None:
        if console.size != self._size:  # a terminal that wraps its lines anew leaves parts of the old table
            self._size = console.size
            console.clear()
        live.update(fitted(self.view(trials), console), refresh=True)

    def _speak(self, trials: Sequence[Trial], ended: Sequence[Trial]) -> None:
        for trial in ended:
            console.print(self._sentence(trial))
        if ended:
            self._spoke = time.monotonic()
        elif time.monotonic() - self._spoke > SILENCE_SECONDS:
            self._spoke = time.monotonic()
            at_work = [f"{x.cell}/{x.number} at epoch {x.epoch}" for x in self._lines(trials) if x.running]
            named = [f"at work: {', '.join(at_work)}"] if at_work else []  # none while paused, or as all gave way
            console.print("; ".join([*self._progress(), *named, *self._parts()]))

    def _sentence(self, trial: Trial) -> str:
        metrics = self._metrics(trial)
        values = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("distortion", "perception") if name in metrics)
        told = f"{trial.proposal.name}: {trial.state}, {trial.reason or values} ({label(trial.proposal.params)})"
        best = self._best(trial.proposal.cell)
        lowest = [f"best of {trial.proposal.cell} so far {best:.4f}"] if best is not None else []
        return "; ".join([told, *lowest, *self._progress()])

    def _best(self, cell: str) -> float | None:
        complete = (t for t in self._driver.ledger.trials() if t.is_searched(State.COMPLETE))
        found = (self._metrics(t) for t in complete if t.proposal.cell == cell)
        return min((metrics["distortion"] for metrics in found if metrics), default=None)

    def _metrics(self, trial: Trial) -> dict[str, float]:
        latest = self._driver.latest.get(trial.proposal.trial_id)
        return latest.metrics if latest else {}

    def _progress(self) -> list[str]:
        left, running = self._seconds_left(), f"running for {duration(time.monotonic() - self._start)}"
        ended = f"{len(self._told)}/{self._driver.planned()} trials ended"
        paused = [f"paused {self._driver.paused.by}"] if self._driver.paused else []
        return [ended, *paused, *([f"about {duration(left)} left"] if left is not None else []), running]

    def _epochs_done(self) -> int:
        return sum(latest.epoch for latest in self._driver.latest.values())

    def _seconds_left(self) -> float | None:
        done = self._epochs_done() - self._epochs_before
        if not done:
            return None
        latest = self._driver.latest
        ended_short = sum(self._epochs - (latest[t].epoch if t in latest else 0) for t in self._told)
        longer = sum(self._epochs_of(proposal) - self._epochs for proposal in self._driver.open.values())
        remaining = self._driver.planned() * self._epochs + longer - self._epochs_done() - ended_short
        return max(0.0, (time.monotonic() - self._start) / done * remaining)

    def _epochs_of(self, proposal: Proposal) -> int:
        """More than the sweep's, where it is an extension."""
        return self._driver.sweep.epochs(proposal.params)

    def _parts(self) -> list[str]:
        return [f"{len(self._driver.open)}/{self._driver.slots} slots busy", *self._utilization.parts()]

    def view(self, trials: Sequence[Trial]) -> View:
        """What there is to see now."""
        lines = self._lines(trials)
        by_trial = {t.proposal.trial_id: line for t, line in zip(trials, lines, strict=True)}
        cells = {cell.name: self._cell(cell.name, trials, by_trial) for cell in self._driver.sweep.cells()}
        running = [line for line in lines if line.running or line.state == WAITING]
        ended = [by_trial[t] for t in reversed(self._told)]
        ended_of_all, *rest = self._progress()
        title = [f"{self._driver.sweep.file.name}: {ended_of_all}", *rest]
        return View(title, cells, [*running, *ended], self._parts())

    def _cell(self, name: str, trials: Sequence[Trial], lines: dict[str, Line]) -> CellState:
        here = [t for t in trials if t.proposal.cell == name]
        complete = [lines[t.proposal.trial_id] for t in here if t.is_searched(State.COMPLETE)]
        pairs = ((line.distortion, line) for line in complete if line.distortion is not None)
        _, best = min(pairs, key=lambda pair: pair[0], default=(None, None))
        ended = sum(t.ended for t in here)
        return CellState(ended, len(here) + self._driver.ledger.missing(name), best)

    def _lines(self, trials: Sequence[Trial]) -> list[Line]:
        fixed = {cell.name: set(cell.fixed) for cell in self._driver.sweep.cells()}
        return [self._line(trial, fixed.get(trial.proposal.cell, set())) for trial in trials]

    def _line(self, trial: Trial, fixed: set[str]) -> Line:
        proposal, metrics = trial.proposal, self._metrics(trial)
        latest, epochs = self._driver.latest.get(proposal.trial_id), self._epochs_of(proposal)
        running = not trial.ended and proposal.trial_id in self._driver.open
        state = trial.state if trial.ended else WAITING
        if running:
            state = time_left(self._trial_seconds_left(latest, epochs)) or State.RUNNING
            if self._driver.evaluations.asked and latest and latest.epoch == epochs:
                state = EVALUATED
        number = str(proposal.number) if proposal.is_searched else f"{proposal.study.rstrip('s')} {proposal.number}"
        distortion, perception = map(metrics.get, ("distortion", "perception"))
        settings = label({key: value for key, value in proposal.params.items() if key not in fixed})
        reached = f"{latest.epoch if latest else 0}/{epochs}"
        return Line(proposal.cell, number, reached, distortion, perception, state, running, settings)

    def _trial_seconds_left(self, latest: Epoch | None, epochs: int) -> float | None:
        """By the trial's own pace so far."""
        if not latest:
            return None
        since = min(time.time() - latest.timestamp / 1000, time.monotonic() - self._start)
        return max(0.0, latest.seconds / latest.epoch * (epochs - latest.epoch) - since)
