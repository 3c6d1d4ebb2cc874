"""The sweep in the terminal: a live table, or plain lines where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Group as Lines
from rich.live import Live
from rich.table import Table
from rich.text import Text

from toconv.progress import console, duration
from toconv.sweep.driver import Driver
from toconv.sweep.search import Entry, State

REFRESH_SECONDS = 0.5
SHOWN_ENDED = 12  # ended trials that the live table keeps in sight


def short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parameters(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key.rsplit('.', 1)[-1]}={short(v)}" for key, v in params.items())


class Display:
    """Call `update` as often as you like."""

    def __init__(self, driver: Driver, slots: int) -> None:
        self._driver, self._slots = driver, slots
        self._epochs = driver.sweep.base.training.epochs
        self._start, self._last = time.monotonic(), 0.0
        self._epochs_before = self._epochs_done()
        self._told: dict[str, State] = {
            e.proposal.trial_id: e.state for e in driver.ledger.entries() if e.state is not State.RUNNING}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update(force=True)
        if self._live:
            self._live.stop()

    def update(self, force: bool = False) -> None:
        if not force and time.monotonic() - self._last < REFRESH_SECONDS:
            return
        self._last = time.monotonic()
        entries = self._driver.ledger.entries()
        for entry in entries:
            trial = entry.proposal.trial_id
            if entry.state is not State.RUNNING and trial not in self._told:
                self._told[trial] = entry.state
                if not self._live:
                    console.print(self._line(entry))
        if self._live:
            self._live.update(Lines(self._table(entries), Text(self._summary())), refresh=True)

    def _line(self, entry: Entry) -> str:
        row = self._driver.rows.get(entry.proposal.trial_id)
        metrics = row["metrics"] if row else {}
        values = ", ".join(f"{name} {metrics[name]:.4f}" for name in ("distortion", "perception") if name in metrics)
        outcome = entry.reason or values
        return (f"{entry.proposal.name}: {entry.state.name.lower()}, {outcome} "
                f"({parameters(entry.proposal.params)}); {self._summary()}")

    def _summary(self) -> str:
        left = self._seconds_left()
        return (f"{len(self._told)}/{self._driver.planned()} trials ended, running for "
                f"{duration(time.monotonic() - self._start)}"
                + (f", about {duration(left)} left" if left is not None else "") + self._best())

    def _best(self) -> str:
        best: dict[int, float] = {}
        for entry in self._driver.ledger.entries():
            row = self._driver.rows.get(entry.proposal.trial_id)
            if entry.state is State.COMPLETE and row:
                tokens = self._driver.sweep.tokens(entry.proposal.params)
                best[tokens] = min(best.get(tokens, float("inf")), row["metrics"]["distortion"])
        if not best:
            return ""
        return "; best distortion " + ", ".join(f"{best[n]:.4f} at {n} tokens" for n in sorted(best))

    def _epochs_done(self) -> int:
        return sum(row["epoch"] for row in self._driver.rows.values())

    def _seconds_left(self) -> float | None:
        done = self._epochs_done() - self._epochs_before
        if not done:
            return None
        ended_short = sum(self._epochs - self._driver.rows.get(t, {"epoch": 0})["epoch"] for t in self._told)
        remaining = self._driver.planned() * self._epochs - self._epochs_done() - ended_short
        return max(0.0, (time.monotonic() - self._start) / done * remaining)

    def _table(self, entries: list[Entry]) -> Table:
        table = Table(title=self._driver.sweep.file.name, title_justify="left")
        for name in ("trial", "state", "epoch", "distortion", "perception"):
            table.add_column(name, justify="left" if name in {"trial", "state"} else "right")
        table.add_column("parameters", overflow="fold")
        running = [e for e in entries if e.state is State.RUNNING]
        ended = [e for e in entries if e.state is not State.RUNNING][-SHOWN_ENDED:]
        for entry in ended + running:
            row = self._driver.rows.get(entry.proposal.trial_id)
            metrics = row["metrics"] if row else {}
            table.add_row(
                entry.proposal.name, entry.state.name.lower(), f"{row['epoch'] if row else 0}/{self._epochs}",
                *(f"{metrics[n]:.4f}" if n in metrics else "" for n in ("distortion", "perception")),
                parameters(entry.proposal.params))
        return table
