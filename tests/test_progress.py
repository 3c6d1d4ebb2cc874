"""What a pipe gets to read: a line at once, and no long silence."""

import subprocess
import sys
import time

import pytest

from tests.repository import REPOSITORY
from toconv import progress


@pytest.fixture
def quick_heart(monkeypatch):
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(progress, "LIVE", False)


def test_a_silence_is_broken_by_what_is_at_work(quick_heart, capsys):
    with progress.heartbeat():
        with progress.phase("Ray starts"):
            time.sleep(0.2)
        with progress.bar("images") as bar:
            task = bar.add_task("encoding", total=8)
            bar.advance(task, 3)
            time.sleep(0.2)
        time.sleep(0.2)
    told = capsys.readouterr().out
    assert "Ray starts; for 0 s now\n" in told and "encoding: 3/8 images" in told and "at work; for" in told


def test_who_prints_is_not_interrupted_and_nothing_comes_after_the_end(quick_heart, capsys):
    with progress.heartbeat():
        for _ in range(20):
            progress.console.print("line")
            time.sleep(0.01)
    time.sleep(0.1)
    assert set(capsys.readouterr().out.splitlines()) == {"line"}


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
