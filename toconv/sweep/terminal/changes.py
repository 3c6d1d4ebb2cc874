"""What of a sweep's file has changed since its last start, as a table."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from toconv.progress import console
from toconv.sweep.growth import Change


def show_changes(changes: Sequence[Change], told: str = "") -> None:
    """What of a sweep's file is not as it was at its last start, and what becomes of the trials so far."""
    if not changes:
        return
    table = Table(title="what has changed since the last start", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("key", "was", "now", "what it does"):
        table.add_column(name, overflow="fold")
    for change in changes:
        table.add_row(*map(Text, (change.key, change.was, change.now, change.does)))
    console.print(table)
    if told:
        console.print(told)
