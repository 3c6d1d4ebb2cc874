"""Progress in the terminal: rich where there is one, plain lines where the output goes to a file."""

import os
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining
from rich.text import Text

PLAIN_WIDTH = 160  # columns of tables where the output is no terminal
console = Console(soft_wrap=True, highlight=False, force_terminal=sys.stdout.isatty())
if not console.is_terminal:
    console.width = PLAIN_WIDTH
LIVE = console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")  # whether lines may be redrawn


class Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g}/s" if speed else "")


def bar(unit: str) -> Progress:
    """A progress bar of `unit`s with rate and time left; draws nothing where lines cannot be redrawn."""
    done = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), Rate()
    return Progress(*done, Elapsed(), TextColumn("left"), Remaining(), console=console, disable=not LIVE)


def duration(seconds: float) -> str:
    """`90` → `1 min 30 s`."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def say(line: str) -> None:
    """Print a line that holds names of files: nothing in it is markup, and what cannot be shown is escaped."""
    console.print(printable(line), markup=False, emoji=False)


def printable(text: str) -> str:
    """With escapes for bytes that are not UTF-8 and for what would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1].replace("\\udc", "\\x") for c in text)
