"""The sweep in the terminal: a live table, or plain lines where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.live import Live

from toconv.progress import LIVE, console, duration
from toconv.sweep.driver import Driver
from toconv.sweep.live_table import CellState, Line, View, fitted, time_left
from toconv.sweep.pulse import Pulse
from toconv.sweep.records import label
from toconv.sweep.search import Entry, State

REFRESH_SECONDS = 0.5
SHARE = 0.05  # of the driver's time that drawing may take
SILENCE_SECONDS = 600.0  # after so long without a plain line one tells how far running trials are


class Display:
    """Call `update` as often as you like."""

    def __init__(self, driver: Driver, slots: int, pulse: Pulse) -> None:
        self._driver, self._slots, self._pulse = driver, slots, pulse
        self._epochs = driver.sweep.base.training.epochs
        self._start = self._spoke = time.monotonic()
        self._last, self._pause = 0.0, REFRESH_SECONDS
        self._epochs_before = self._epochs_done()
        self._told: dict[str, State] = {  # by trial_id, in the order in which trials ended
            e.proposal.trial_id: e.state for e in driver.ledger.entries() if e.state is not State.RUNNING}
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
        entries = self._driver.ledger.entries()
        ended = [e for e in entries if e.state is not State.RUNNING and e.proposal.trial_id not in self._told]
        self._told |= {e.proposal.trial_id: e.state for e in ended}
        if self._live:
            self._draw(entries)
        else:
            self._speak(entries, ended)
        self._last = time.monotonic()
        self._pause = max(REFRESH_SECONDS, (self._last - now) / SHARE)

    def _draw(self, entries: Sequence[Entry]) -> None:
        if console.size != self._size:  # a terminal that wraps its lines anew leaves parts of the old table
            self._size = console.size
            console.clear()
        self._live.update(fitted(self.view(entries), console), refresh=True)

    def _speak(self, entries: Sequence[Entry], ended: Sequence[Entry]) -> None:
        for entry in ended:
            console.print(self._sentence(entry))
        if ended:
            self._spoke = time.monotonic()
        elif time.monotonic() - self._spoke > SILENCE_SECONDS:
            self._spoke = time.monotonic()
            at_work = [f"{x.cell}/{x.number} at epoch {x.epoch}" for x in self._lines(entries) if x.running]
            console.print("; ".join([*self._progress(), f"at work: {', '.join(at_work)}", *self._parts()]))

    def _sentence(self, entry: Entry) -> str:
        metrics = self._metrics(entry)
        values = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("distortion", "perception") if name in metrics)
        best = self._best(entry.proposal.cell)
        lowest = [f"best of {entry.proposal.cell} so far {best:.4f}"] if best is not None else []
        return "; ".join([f"{entry.proposal.name}: {entry.state.name.lower()}, {entry.reason or values} "
                          f"({label(entry.proposal.params)})", *lowest, *self._progress()])

    def _best(self, cell: str) -> float | None:
        return min((self._metrics(e)["distortion"] for e in self._driver.ledger.entries()
                    if e.state is State.COMPLETE and e.proposal.cell == cell and not e.proposal.finalist_of
                    and self._metrics(e)), default=None)

    def _metrics(self, entry: Entry) -> dict[str, float]:
        row = self._driver.rows.get(entry.proposal.trial_id)
        return row["metrics"] if row else {}

    def _progress(self) -> list[str]:
        left = self._seconds_left()
        return [f"{len(self._told)}/{self._driver.planned()} trials ended",
                *([f"about {duration(left)} left"] if left is not None else []),
                f"running for {duration(time.monotonic() - self._start)}"]

    def _epochs_done(self) -> int:
        return sum(row["epoch"] for row in self._driver.rows.values())

    def _seconds_left(self) -> float | None:
        done = self._epochs_done() - self._epochs_before
        if not done:
            return None
        ended_short = sum(self._epochs - self._driver.rows.get(t, {"epoch": 0})["epoch"] for t in self._told)
        remaining = self._driver.planned() * self._epochs - self._epochs_done() - ended_short
        return max(0.0, (time.monotonic() - self._start) / done * remaining)

    def _parts(self) -> list[str]:
        return [f"{len(self._driver.open)}/{self._slots} slots busy", *self._pulse.parts()]

    def view(self, entries: Sequence[Entry]) -> View:
        """What there is to see now."""
        lines = self._lines(entries)
        by_trial = {e.proposal.trial_id: line for e, line in zip(entries, lines, strict=True)}
        cells = {cell.name: self._cell(cell.name, entries, by_trial) for cell in self._driver.sweep.cells()}
        running = [line for line in lines if line.running or line.state == "waiting"]
        ended = [by_trial[t] for t in reversed(self._told)]
        ended_of_all, *rest = self._progress()
        title = [f"{self._driver.sweep.file.name}: {ended_of_all}", *rest]
        return View(title, cells, [*running, *ended], self._parts())

    def _cell(self, name: str, entries: Sequence[Entry], lines: dict[str, Line]) -> CellState:
        here = [e for e in entries if e.proposal.cell == name]
        searched = [e for e in here if e.state is State.COMPLETE and not e.proposal.finalist_of]
        complete = [lines[e.proposal.trial_id] for e in searched]
        best = min((line for line in complete if line.distortion is not None), key=lambda x: x.distortion, default=None)
        ended = sum(e.state is not State.RUNNING for e in here)
        return CellState(ended, len(here) + self._driver.ledger.missing(name), best)

    def _lines(self, entries: Sequence[Entry]) -> list[Line]:
        fixed = {cell.name: set(cell.fixed) for cell in self._driver.sweep.cells()}
        return [self._line(e, {k: v for k, v in e.proposal.params.items() if k not in fixed[e.proposal.cell]})
                for e in entries]

    def _line(self, entry: Entry, params: dict[str, Any]) -> Line:
        proposal, metrics = entry.proposal, self._metrics(entry)
        row = self._driver.rows.get(proposal.trial_id)
        running = entry.state is State.RUNNING and proposal.trial_id in self._driver.open
        if running:
            state = time_left(self._trial_seconds_left(row)) or "running"
        else:
            state = "waiting" if entry.state is State.RUNNING else entry.state.name.lower()
        number = f"finalist {proposal.number}" if proposal.finalist_of else str(proposal.number)
        return Line(proposal.cell, number, f"{row['epoch'] if row else 0}/{self._epochs}", metrics.get("distortion"),
                    metrics.get("perception"), state, running, label(params))

    def _trial_seconds_left(self, row: dict[str, Any] | None) -> float | None:
        """By the trial's own pace so far."""
        if not row:
            return None
        since = min(time.time() - row["timestamp"] / 1000, time.monotonic() - self._start)
        return max(0.0, row["seconds"] / row["epoch"] * (self._epochs - row["epoch"]) - since)
