"""What comes from users is printed as it is: names, paths, messages; in lines, tables and bars."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.records import OBJECTIVES, baselines, record
from toconv import progress
from toconv.sweep.terminal.live_table import CellState, Line, View, fitted
from toconv.sweep.terminal.tables import front_table

NAMES = ["[/b]", "[red]x", "a[link=x]", ":smile:", "[bold", "[[x]]"]


def written(what, console):
    with console.capture() as captured:
        console.print(what)
    return captured.get()


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_is_text(name, monkeypatch):
    assert written(f"outputs/{name}.png: not written", progress.console) == f"outputs/{name}.png: not written\n"
    records = [record("a", 16, 0.5, name=name, params={"model.x": name}), *baselines(16, **{name: 0.6})]
    anyones = Console(width=200)
    assert written(front_table(records, OBJECTIVES), anyones).count(name) >= 3
    line = Line(name, "1", "1/2", 0.5, 0.5, name, True, name)
    assert (
        written(fitted(View([name], {name: CellState(0, 1, None)}, [line], [name]), anyones), anyones).count(name) == 5
    )
    monkeypatch.setattr(progress, "LIVE", True)
    monkeypatch.setattr(progress, "console", Console(file=io.StringIO(), force_terminal=True, width=200))
    with progress.bar(name) as bar:
        assert isinstance(bar, Progress)
        bar.add_task(name, total=1)
        bar.refresh()
    assert progress.console.file.getvalue().count(name) >= 2
