"""What a pipe gets to read: a line at once, and no long silence. What comes from users is printed as it is: names,
paths, messages; in lines, tables and bars."""

import io
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.records import OBJECTIVES, baselines, record
from tests.repository import REPOSITORY
from toconv import progress
from toconv.sweep.terminal.live_table import CellState, Line, View, fitted
from toconv.sweep.terminal.tables import best_table

NAMES = ["[/b]", "[red]x", "a[link=x]", ":smile:", "[bold", "[[x]]"]


@pytest.fixture
def quick_heart(monkeypatch):
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LIVE", False)


def until_told(capsys, text):
    """What was printed, up to a line with that text."""
    told, end = "", time.monotonic() + 60
    while text not in told:
        assert time.monotonic() < end, told
        time.sleep(0.01)
        told += capsys.readouterr().out
    return told


def test_a_silence_is_broken_by_what_is_at_work(quick_heart, capsys):
    with progress.heartbeat():
        with progress.phase("Ray starts"):
            assert re.search(r"^Ray starts; for \d+ s now$", until_told(capsys, "Ray starts"), re.M)
        with progress.bar("images") as bar:
            task = bar.add_task("encoding", total=8)
            bar.advance(task, 3)
            until_told(capsys, "encoding: 3/8 images")
        until_told(capsys, "at work; for")


class Clock:
    """Stands still until it is set on; `beats` are the looks of the heartbeat's thread at it."""

    def __init__(self):
        self.now, self._beats = 0.0, threading.Semaphore(0)

    def monotonic(self):
        if threading.current_thread().name == "heartbeat":
            self._beats.release()
        return self.now

    def beats(self, count):
        assert all(self._beats.acquire(timeout=60) for _ in range(count))


def test_who_prints_is_not_interrupted_and_nothing_comes_after_the_end(quick_heart, monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(progress.console, "spoke", 0.0)
    with progress.heartbeat():
        for _ in range(20):
            progress.console.print("line")
            clock.now += 0.04
            clock.beats(1)
        beating = [thread for thread in threading.enumerate() if thread.name == "heartbeat"]
    for thread in beating:
        thread.join(60)
    assert not any(thread.is_alive() for thread in beating) and set(capsys.readouterr().out.splitlines()) == {"line"}


def test_where_lines_are_redrawn_there_are_no_heartbeats(quick_heart, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LIVE", True)
    with progress.heartbeat():
        time.sleep(0.1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["sweep", "train", "compress", "export", "report", "sync"])
def test_the_first_line_comes_before_anything_is_imported(command, tmp_path):
    """The command's own module is never reached: its import is an error here."""
    code = (
        "import sys, importlib, toconv.__main__ as m\n"
        "def load(name): raise SystemExit(7)\n"
        "m.import_module = load\n"
        f"m.main([{command!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith(f"toconv {command}; ") and str(tmp_path) in done.stdout


def written(what, console):
    with console.capture() as captured:
        console.print(what)
    return captured.get()


@pytest.mark.parametrize("name", NAMES)
def test_markup_in_a_name_is_text(name, monkeypatch):
    assert written(f"outputs/{name}.png: not written", progress.console) == f"outputs/{name}.png: not written\n"
    records = [record("a", 16, 0.5, name=name, params={"model.x": name}), *baselines(16, **{name: 0.6})]
    anyones = Console(width=200)
    assert written(best_table(records, OBJECTIVES), anyones).count(name) == 1
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


@pytest.mark.parametrize(
    ("count", "said"),
    [
        *((0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (9_876_543, "9.88 MB")),
        *((1.5e9, "1.50 GB"), (1_512_570_880_000, "1,512.57 GB")),
    ],
)
def test_a_number_of_bytes_says_something_whatever_its_size(count, said):
    assert progress.size(count) == said
