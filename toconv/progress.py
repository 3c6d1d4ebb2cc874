"""Progress in the terminal: rich where there is one, plain lines where the output goes to a file."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_WIDTH = 160  # columns of tables where the output is no terminal
console = Console(soft_wrap=True, highlight=False)
if not console.is_terminal:
    console.width = PLAIN_WIDTH


def bar(unit: str) -> Progress:
    """A progress bar of `unit`s with time left; draws nothing where the output is no terminal."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal)


def duration(seconds: float) -> str:
    """`90` → `1 min 30 s`."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
