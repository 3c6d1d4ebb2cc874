"""The table of a running sweep, made to fit: never wider and never taller than the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from toconv.analysis.records import State
from toconv.progress import duration

NARROWEST_PARAMETERS, WIDEST_CELL = 14, 24  # columns
GAP = 2  # columns between two columns
LAYOUTS = (  # the first that fits is taken
    ("cell", "trial", "epoch", "distortion", "perception", "state", "parameters"),
    ("cell", "trial", "epoch", "distortion", "state", "parameters"),
    ("cell", "trial", "epoch", "distortion", "perception", "state"),
    ("cell", "trial", "epoch", "distortion", "state"),
    ("cell", "trial", "distortion"),
    ("trial", "distortion"),
)
RIGHT = {"trial", "epoch", "distortion", "perception"}
WAITING = "waiting"  # begun by an earlier start, and not gone on with yet
STYLES = {State.FAILED: "red", State.PRUNED: "dim", WAITING: "dim"}


@dataclass(frozen=True)
class Line:
    """A trial as it stands."""

    cell: str
    number: str
    epoch: str
    distortion: float | None
    perception: float | None
    state: str  # complete, pruned, failed, waiting; of a running one the time that it still takes
    running: bool
    parameters: str


@dataclass(frozen=True)
class CellState:
    """How far a cell is."""

    ended: int
    planned: int
    best: Line | None


@dataclass(frozen=True)
class View:
    """Everything that the live view shows."""

    title: Sequence[str]  # parts of the first line, the most important first
    cells: Mapping[str, CellState]
    lines: Sequence[Line]  # running trials, and ended ones from the latest to the first
    foot: Sequence[str]  # parts of the last line


def fitted(view: View, console: Console) -> Group:
    """The view for this console: columns and then rows are left out until it fits."""
    width, height = console.width, console.height - 1  # the cursor stands below
    title, foot = _one_line(view.title, width, "bold"), _one_line(view.foot, width)
    ranked = _ranked(view)
    count = min(len(ranked), height)
    while count > 0:
        chosen = set(map(id, ranked[:count]))
        shown = [line for line in ranked if id(line) in chosen]
        table = _table(view, shown, width)
        rest = _left_out(ranked[count:])
        lines: list[Text | Table] = [title, table, *([_one_line([rest], width, "dim")] if rest else []), foot]
        taken = len(lines) - 1 + len(console.render_lines(table, console.options.update(width=width), pad=False))
        if taken <= height:
            return Group(*lines)
        count -= max(1, (taken - height) // 2)
    return Group(title, foot)


def _ranked(view: View) -> list[Line]:
    """What to show first: what runs, then a line of each cell (its best trial, where it has one), then the rest."""
    best = [state.best or Line(name, "", "", None, None, "", False, "") for name, state in view.cells.items()]
    running = [line for line in view.lines if line.running]
    held = {line.cell for line in running}
    first = [*running, *(b for b in best if b.cell not in held or b.number)]
    return [*first, *(line for line in view.lines if line not in first)]


def _left_out(lines: Sequence[Line]) -> str:
    running = sum(line.running for line in lines)
    trials = sum(bool(line.number) for line in lines)
    cells = len(lines) - trials
    told = [
        f"{running} more running" if running else "",
        f"{trials - running} more ended" if trials > running else "",
        f"{cells} more cells to begin" if cells else "",
    ]
    return "… " + ", ".join(filter(None, told)) if any(told) else ""


def _one_line(parts: Sequence[str], width: int, style: str = "") -> Text:
    """As many of the parts as one line holds."""
    text = ""
    for part in parts:
        longer = f"{text}; {part}" if text else part
        if text and cell_len(longer) > width:
            break
        text = longer
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _table(view: View, shown: Sequence[Line], width: int) -> Table:
    """One line a trial, cell by cell; a cell is named at its first line."""
    order = list(view.cells)
    lines = sorted(shown, key=lambda line: (order.index(line.cell), line.number == "", line.running))
    rows, before = [], None
    for line in lines:
        state = view.cells[line.cell]
        cell = f"{_shortened(line.cell)} {state.ended}/{state.planned}" if line.cell != before else ""
        rows.append(_row(line, cell, line == state.best))
        before = line.cell
    columns = next((names for names in LAYOUTS if _width(names, rows) <= width), LAYOUTS[-1])
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", expand=False)
    for name in columns:
        fold, right = name == "parameters", name in RIGHT
        table.add_column(
            name, justify="right" if right else "left", no_wrap=not fold, overflow="fold" if fold else "ellipsis"
        )
    for line, row in zip(lines, rows, strict=True):
        table.add_row(
            *(Text(row[name]) for name in columns), style="cyan" if line.running else STYLES.get(line.state, "")
        )
    return table


def _row(line: Line, cell: str, best: bool) -> dict[str, str]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    return {
        "cell": cell,
        "trial": f"★ {line.number}" if best else line.number,
        "epoch": line.epoch,
        "distortion": number(line.distortion),
        "perception": number(line.perception),
        "state": line.state,
        "parameters": line.parameters,
    }


def _width(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> int:
    widths = {name: max(cell_len(name), *(cell_len(row[name]) for row in rows)) for name in names}
    if "parameters" in widths:
        widths["parameters"] = min(widths["parameters"], NARROWEST_PARAMETERS)
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _shortened(cell: str) -> str:
    return cell if len(cell) <= WIDEST_CELL else f"{cell[: WIDEST_CELL - 1]}…"


def time_left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"
