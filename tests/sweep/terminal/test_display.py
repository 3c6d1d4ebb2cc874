"""The live view: readable at every width and height, in a terminal that is resized, and piped."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.repository import REPOSITORY
from tests.running import command, rows, trial_rows, write_sweep
from toconv.analysis.records import label
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.terminal.display import Display
from toconv.sweep.terminal.live_table import CellState, Line, View, fitted
from toconv.sweep.terminal.utilization import Utilization, describe
from toconv.training.epochs import Epoch

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FOOT = ("2/2 slots busy", "Ray: 2/2 CPU", "CPU 97 % busy", "memory 8.0 GB (50 %)")


def line(cell, number, distortion=0.3, state="complete", running=False):
    parameters = f"λ={number}.25 n=5 w=0.00{number} kind=attention"
    return Line(cell, str(number), "8/8", distortion, 0.0123, state, running, parameters)


def view(cells=4, ended=4, running=2):
    names = [f"k={4 + 2 * i}" for i in range(cells)]
    at_work = [line(names[i % cells], 90 + i, state="12 min 5 s left", running=True) for i in range(running)]
    done = [line(name, n, distortion=0.4 - n / 100) for name in names for n in range(ended)]
    states = {
        name: CellState(ended, 8, min((x for x in done if x.cell == name), key=lambda x: x.distortion, default=None))
        for name in names
    }
    return View(
        ("grid: 16/32 trials ended", "about 20 min 5 s left", "running for 12 min 40 s"),
        states,
        [*at_work, *done],
        FOOT,
    )


def shown(view_, width, height):
    console = Console(width=width, height=height, force_terminal=True, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        console.print(fitted(view_, console))
    return capture.get().rstrip("\n").split("\n")


SIZES = [(width, height) for width in (30, 60, 80, 120, 200) for height in (5, 10, 24, 50)]


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("cells, ended, running", [(4, 4, 2), (1, 0, 1), (40, 12, 16), (3, 0, 0)])
def test_it_is_never_wider_and_never_taller_than_the_terminal(width, height, cells, ended, running):
    lines = shown(view(cells, ended, running), width, height)
    assert len(lines) < height
    assert max(cell_len(text.rstrip()) for text in lines) <= width


def test_wide_enough_it_has_everything_on_one_line_a_trial():
    lines = shown(view(), 120, 50)
    assert len(lines) == 3 + 4 * 4 + 2  # first line, header, last line; ended trials, running ones
    header = lines[1].split()
    assert header == ["cell", "trial", "epoch", "distortion", "perception", "state", "parameters"]
    (running,) = [text for text in lines if " 90 " in text]
    assert "0.3000" in running and "12 min 5 s left" in running and "λ=90.25 n=5 w=0.0090 kind=attention" in running
    assert [text.split("★")[1].split()[0] for text in lines if "★" in text] == ["3"] * 4
    assert lines[-1] == "; ".join(FOOT)


def test_at_60_columns_it_folds_parameters_and_leaves_columns_out():
    lines = shown(view(running=1), 60, 50)
    assert "perception" not in lines[1] and "distortion" in lines[1]
    assert all(not re.match(r"\s*(n=|w=)", text[:20]) for text in lines)  # folds stay in their own column


def test_what_runs_and_each_cells_best_come_first_and_the_rest_is_counted():
    lines = shown(view(cells=4, ended=8, running=2), 120, 12)
    text = "\n".join(lines)
    assert text.count("left") >= 3 and text.count("★") == 4 and "more ended" in text
    crowded = "\n".join(shown(view(cells=40, ended=0, running=16), 120, 12))
    assert "more running" in crowded and "more cells to begin" in crowded


def test_one_line_tells_of_ray_and_the_devices():
    machine = {
        "cpu_utilization_percentage": 49.6,
        "system_memory_usage_megabytes": 8000.0,
        "system_memory_usage_percentage": 50.0,
        "gpu_0_utilization_percentage": 90.0,
        "gpu_0_memory_usage_percentage": 40.0,
        "gpu_1_utilization_percentage": 80.0,
        "gpu_1_memory_usage_percentage": 20.0,
    }
    assert describe({"CPU": (2.0, 8.0), "GPU": (1.5, 2.0)}, machine) == [
        "Ray: 2/8 CPU, 1.5/2 GPU",
        "GPU 85 % busy, memory 30 %",
        "CPU 50 % busy",
        "memory 8.0 GB (50 %)",
    ]
    assert describe({}, {}) == []


@pytest.fixture
def driver(overrides, tmp_path):
    """Two trials at work, one of them after an epoch of two seconds; no Ray."""
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    driver = Driver(load_sweep(write_sweep(tmp_path, overrides[1]), []), paths, tmp_path, "f00d")
    first, _ = driver.next_proposal(), driver.next_proposal()
    driver.slots, metrics = 3, {"distortion": 0.25, "perception": 0.5}
    driver.latest[first.trial_id] = Epoch(1, time.time_ns() // 1_000_000, 2.0, metrics)
    return driver, first


def test_what_is_shown_is_what_the_driver_knows(driver):
    driver, first = driver
    found = Display(driver, Utilization(dict)).view(driver.ledger.trials())
    assert found.title[0] == "tiny: 0/4 trials ended" and found.foot[0] == "2/3 slots busy"
    assert {name: (cell.ended, cell.planned, cell.best) for name, cell in found.cells.items()} == {
        "k=2": (0, 2, None),
        "k=3": (0, 2, None),
    }
    mine = next(x for x in found.lines if x.cell == first.cell)
    assert (mine.epoch, mine.distortion, mine.perception, mine.running) == ("1/3", 0.25, 0.5, True)
    assert mine.state in {"4 s left", "3 s left"}  # two epochs at the pace of the first
    assert mine.parameters == label({k: v for k, v in first.params.items() if k in driver.sweep.file.search})


def test_what_begins_in_place_of_failed_trials_counts_among_all_and_takes_its_time(driver):
    driver, first = driver
    display = Display(driver, Utilization(dict))
    _, second = driver.open.values()
    for failing in (second, driver.next_proposal(), driver.next_proposal()):
        driver.failed(failing, "losses must be finite")
    display.update(force=True)
    assert display.view(driver.ledger.trials()).title[0] == "tiny: 3/7 trials ended", "four are wanted beside these"
    driver.latest[first.trial_id] = Epoch(2, 1000, 4.0, {"distortion": 0.25, "perception": 0.5})
    display._start = time.monotonic() - 5.0  # in which one epoch was trained
    assert display._seconds_left() == pytest.approx(5 * (4 * 3 - 2), abs=1), "epochs of four trials but for two"


def test_cells_that_are_given_up_are_no_trials_to_come(driver):
    driver, first = driver
    while (proposal := driver.next_proposal()) is not None or len(driver.open) > 1:
        if proposal is not None:
            driver.failed(proposal, "losses must be finite")
        else:
            driver.failed(next(p for p in driver.open.values() if p != first), "losses must be finite")
    driver.completed(first)
    while (proposal := driver.next_proposal()) is not None:
        driver.failed(proposal, "losses must be finite")
    assert driver.planned() == len(driver.ledger.trials()) and driver.left() == 0


def test_piped_each_end_is_told_once_and_a_long_silence_is_broken(driver, capsys, monkeypatch):
    driver, first = driver
    display = Display(driver, Utilization(dict))
    display.update(force=True)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("toconv.sweep.terminal.display.SILENCE_SECONDS", 0.0)
    display.update(force=True)
    assert f"at work: {first.cell}/0 at epoch 1/3" in capsys.readouterr().out
    monkeypatch.setattr("toconv.sweep.terminal.display.SILENCE_SECONDS", 600.0)
    driver.completed(first)
    for _ in range(2):
        display.update(force=True)
    (told,) = capsys.readouterr().out.splitlines()
    assert told.startswith(
        f"{first.name}: complete, distortion 0.2500, perception 0.5000 ({label(first.params)}); best"
    )


def test_piped_a_silence_in_which_nothing_is_at_work_names_no_work(driver, capsys, monkeypatch):
    """As while it is paused, and once machinery that gave way has ended all trials."""
    driver, _ = driver
    for proposal in [*driver.open.values()]:
        driver.released(proposal)
    monkeypatch.setattr("toconv.sweep.terminal.display.SILENCE_SECONDS", 0.0)
    Display(driver, Utilization(dict)).update(force=True)
    told = " ".join(capsys.readouterr().out.split())
    assert re.search(r"^0/4 trials ended; .*running for \d+ s; 0/3 slots busy$", told), told


def test_piped_it_is_plain_lines_of_ours_alone(recorded):
    """The sweep ran with FORCE_COLOR and 60 COLUMNS, as in some CI, and without a terminal."""
    stdout, stderr = recorded.done.stdout, recorded.done.stderr
    assert stderr == "" and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", stdout)
    assert not re.search(r"alembic|optuna|mlflow\.(?!db)|wandb:|INFO|WARNING|\(raylet|pid=", stdout, re.IGNORECASE)
    told = [text for text in stdout.splitlines() if ": complete, distortion" in text]
    ran = [row for row in rows(recorded.folder) if row["kind"] != "baseline"]
    assert len(told) == len(ran) and all("trials ended" in text and "λ=" in text for text in told)


def test_under_ci_with_a_terminal_nothing_is_drawn_twice(tmp_path):
    code = "from toconv.progress import LIVE; print(LIVE)"
    for environment, live in (
        ({"TERM": "xterm"}, "True"),
        ({"TERM": "xterm", "CI": "true"}, "False"),
        ({"TERM": "dumb"}, "False"),
    ):
        out = terminal([sys.executable, "-c", code], tmp_path, environment)
        assert out.strip() == live, environment


def terminal(arguments, folder, environment, resize=()):
    """What a command writes to a terminal of 120×30, resized to each of the sizes a while after it drew."""
    main, sub = pty.openpty()
    fcntl.ioctl(sub, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in {"CI", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR"}}
    python_path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        arguments,
        cwd=folder,
        stdin=sub,
        stdout=sub,
        stderr=sub,
        start_new_session=True,
        env={**clean, "PYTHONPATH": python_path, **environment},
    )
    os.close(sub)
    sizes, out, mark, end = list(resize), b"", 0, time.monotonic() + 300
    while time.monotonic() < end:
        if select.select([main], [], [], 0.2)[0]:
            try:
                out += os.read(main, 65536)
            except OSError:  # its other end is closed
                break
        if sizes and out.count(b"slots busy", mark) >= 4:
            rows, columns = sizes.pop(0)
            fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            out += f"<{columns}x{rows}>".encode()
            mark = len(out)
    assert process.wait(60) == 0, out[-3000:].decode(errors="replace")
    os.close(main)
    return out.decode()


def test_a_terminal_that_is_resized_shows_a_whole_table_at_each_size(overrides, tmp_path):
    _, settings = overrides
    path = write_sweep(tmp_path, {**settings, "training.epochs": 80}, resources={"cpu": 1})
    sizes = [(24, 80), (12, 60), (40, 110)]
    out = terminal(command(path), tmp_path, {"TERM": "xterm-256color"}, sizes)
    assert len(trial_rows(tmp_path)) == 4
    parts = re.split(r"<(\d+)x(\d+)>", out)
    assert len(parts) == 1 + 3 * len(sizes)  # every size was reached while trials ran
    for columns, lines, text in zip(map(int, parts[1::3]), map(int, parts[2::3]), parts[3::3], strict=True):
        cleared = text.split("\x1b[2J")
        assert len(cleared) > 1, "the old table stays on the screen"
        table = cleared[1].split("slots busy")[0]
        shown_lines = ESCAPE.sub("", table).replace("\r", "").split("\n")
        assert len(shown_lines) < lines and all(cell_len(x.rstrip()) <= columns for x in shown_lines), shown_lines
        assert shown_lines[0].startswith("tiny: ") and shown_lines[1].split()[:4] == [
            "cell",
            "trial",
            "epoch",
            "distortion",
        ]
    assert "Traceback" not in out and not re.search(r"alembic|raylet|INFO", out)
    assert ESCAPE.sub("", out).rstrip().splitlines()[-1].startswith("curves, parameters, checkpoints: mlflow ui")
