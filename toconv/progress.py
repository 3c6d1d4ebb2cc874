"""Progress in the terminal: rich where there is one, plain lines where the output goes to a file."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

PLAIN_WIDTH = 160  # columns of tables where the output is no terminal
SILENCE_SECONDS = 25.0  # after so long without a plain line, one tells what is at work
HEARTBEAT_SECONDS = 1.0
UNITS = (1e9, "GB"), (1e6, "MB"), (1e3, "kB")  # of bytes


class SpokenConsole(Console):
    """Knows when it last printed."""

    spoke = time.monotonic()

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        self.spoke = time.monotonic()


# what is printed are names and paths of others, in which [red] and :x: stand for themselves
console = SpokenConsole(soft_wrap=True, highlight=False, markup=False, emoji=False, force_terminal=sys.stdout.isatty())
if not console.is_terminal:
    console.width = PLAIN_WIDTH
LIVE = console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")  # whether lines may be redrawn


class Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g}/s" if speed else "")


@contextmanager
def bar(unit: str) -> Iterator[Progress]:
    """A progress bar of `unit`s with rate and time left; where lines cannot be redrawn, heartbeats tell of it."""
    described = TextColumn("{task.description}", markup=False)
    done = described, BarColumn(), MofNCompleteColumn(), TextColumn(unit, markup=False), Rate()
    progress = Progress(*done, Elapsed(), TextColumn("left"), Remaining(), console=console, disable=not LIVE)
    with progress, phase(lambda: told(progress, unit)):
        yield progress


def told(progress: Progress, unit: str) -> str:
    """A bar as words: `encoding with clip: 128/4000 images, about 5 min 0 s left`."""
    for task in progress.tasks:
        counted = f"{task.completed:g}" if task.total is None else f"{task.completed:g}/{task.total:g}"
        left = f", about {duration(task.time_remaining)} left" if task.time_remaining else ""
        return f"{task.description}: {counted} {unit}{left}"
    return unit


_phases: list[tuple[float, Callable[[], str]]] = []  # when each began, and what it is; the innermost last


@contextmanager
def phase(says: Callable[[], str] | str) -> Iterator[None]:
    """What is at work within, for the heartbeat."""
    entry = time.monotonic(), (lambda: says) if isinstance(says, str) else says
    _phases.append(entry)
    try:
        yield
    finally:
        _phases.remove(entry)


@contextmanager
def heartbeat() -> Iterator[None]:
    """Within, a plain line whenever nothing was printed for SILENCE_SECONDS; none where lines are redrawn."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            if time.monotonic() - console.spoke > SILENCE_SECONDS:
                with suppress(OSError, ValueError, IndexError):  # nobody reads any more, or all is over
                    began, says = _phases[-1]
                    console.print(f"{says()}; for {duration(time.monotonic() - began)} now")

    with phase("at work"):
        if not LIVE:
            threading.Thread(target=beat, daemon=True, name="heartbeat").start()
        try:
            yield
        finally:
            over.set()


def duration(seconds: float) -> str:
    """`90` → `1 min 30 s`."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def size(count: float) -> str:
    """`1500` bytes → `1.50 kB`."""
    unit, name = next((pair for pair in UNITS if count >= pair[0]), (1, "bytes"))
    return f"{count / unit:,.2f} {name}" if unit > 1 else f"{count:.0f} {name}"


def say(line: str) -> None:
    """Print a line that holds names of files: nothing in it is markup, and what cannot be shown is escaped."""
    console.print(printable(line), markup=False, emoji=False)


def printable(text: str) -> str:
    """With escapes for bytes that are not UTF-8 and for what would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1].replace("\\udc", "\\x") for c in text)
