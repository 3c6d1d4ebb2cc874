"""The process that writes the report anew while its sweep runs, at work, failing, hanging, and alone."""

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import count

import psutil
import pytest

from tests.repository import REPOSITORY
from tests.running import until, write_sweep
from toconv.paths import SweepPaths
from toconv.report import refreshing
from toconv.report.refreshing import Refreshing

pytestmark = pytest.mark.slow
PAGE_SECONDS = 250  # that a page may take below all else of a busy machine, and the rest after it, 9 times as long
DRIVER = """
import os, sys, time
from pathlib import Path
from toconv.report import refreshing
refreshing.EVERY_SECONDS = 0.0
beside = refreshing.Refreshing(Path(sys.argv[1]))
beside.poll(1)
time.sleep(float(sys.argv[2]))
while list(Path(sys.argv[1]).glob(".report*")):  # a page that is on its way to the disk gets there
    time.sleep(0.001)
os.kill(os.getpid(), 9)
"""
SWEEP = """
import sys, time
from pathlib import Path
from toconv.report import refreshing
refreshing.EVERY_SECONDS = 1.0
poll = refreshing.Refreshing.poll

def held(beside, ended):
    poll(beside, ended)
    while ended and not Path("seen").exists():  # however slow the page is: the sweep does not end before it
        time.sleep(0.05)
        poll(beside, ended)

refreshing.Refreshing.poll = held
from toconv.__main__ import main
sys.exit(main(["sweep", *sys.argv[1:]]))
"""


@pytest.fixture
def paths(finalists, tmp_path, monkeypatch):
    """A finished sweep without its report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(refreshing, "EVERY_SECONDS", 0.2)
    monkeypatch.setattr(refreshing, "END_SECONDS", 0.5)
    with finalists.lock:  # else files of a start in another process may go meanwhile
        shutil.copytree(finalists.root, tmp_path / "outputs" / "tiny")
    found = SweepPaths(tmp_path / "outputs" / "tiny")
    found.report.unlink()
    return found


def polled(beside, ended, holds):
    def done():
        beside.poll(ended)
        return holds()

    until(done, PAGE_SECONDS)


def writers(paths):
    """The processes that write this sweep's report."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if refreshing.SCRIPT in words and str(paths.root) in words:
            found.append(process)
    return found


def test_a_page_is_written_once_a_trial_has_ended_and_another_one_when_the_next_has(paths):
    with Refreshing(paths.root) as beside:
        time.sleep(0.3)
        beside.poll(0)
        assert not writers(paths), "there is nothing to show"
        polled(beside, 1, paths.report.exists)
        (process,) = writers(paths)
        assert process.nice() == 19
        paths.report.unlink()
        for _ in range(20):
            beside.poll(1)
            time.sleep(0.05)
        assert not paths.report.exists(), "nothing has changed"
        polled(beside, 2, paths.report.exists)
        assert writers(paths) == [process]
    assert not writers(paths) and paths.report.read_text().endswith("</html>\n")
    assert not list(paths.root.glob(".report*"))


def test_a_failure_is_said_once_and_the_next_trial_that_ends_starts_it_anew(paths, capfd):
    request = paths.request.read_text()
    paths.request.unlink()
    with Refreshing(paths.root) as beside:
        for ended in (1, 2):
            time.sleep(0.3)
            beside.poll(ended)
            polled(beside, ended, lambda: not [p for p in writers(paths) if p.status() != psutil.STATUS_ZOMBIE])
            beside.poll(ended)
        paths.request.write_text(request)
        later = count(3)  # the one before may not be gone yet, and then takes a word to its grave
        until(lambda: beside.poll(next(later)) or paths.report.exists())
    printed = capfd.readouterr().out
    assert printed.count("the report was not refreshed (RequestError: ") == 1 and "holds no sweep" in printed


def test_a_process_that_hangs_holds_nothing_back(paths):
    with Refreshing(paths.root) as beside:
        polled(beside, 1, lambda: writers(paths))
        writers(paths)[0].suspend()
        start = time.monotonic()
        for ended in range(2, 50):
            beside.poll(ended)
            time.sleep(0.01)
        assert time.monotonic() - start < 60  # it hangs for ever
    assert not writers(paths)


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_it_ends_with_a_driver_that_is_killed_and_writes_nothing_after_it(paths, seconds):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    driver = subprocess.run([sys.executable, "-c", DRIVER, str(paths.root), str(seconds)], env=environment)
    assert driver.returncode == -signal.SIGKILL
    before = paths.report.exists()
    until(lambda: not writers(paths))
    assert paths.report.exists() == before and not list(paths.root.glob(".report*"))


def test_a_sweep_has_an_unfinished_report_while_it_runs_and_does_without_whoever_writes_it(long_sweep):
    folder, file = long_sweep
    paths = SweepPaths(folder / "outputs" / "tiny")
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, str(file)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # the writer shares a processor with this sweep's driver, not with other tests
    )
    until(lambda: paths.report.exists() or process.poll() is not None, PAGE_SECONDS)
    first = paths.report.read_text()
    assert process.poll() is None and "Unfinished." in first and first.endswith("</html>\n")
    for writer in writers(paths):
        writer.kill()
    (folder / "seen").touch()
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "the report was not refreshed (exit code -9)" in printed, printed
    assert "Unfinished." not in paths.report.read_text() and not writers(paths)


@pytest.fixture
def long_sweep(tiny_encoder, photographs, shared, tmp_path):
    from tests.conftest import quick

    settings = {**quick(tiny_encoder, photographs, tmp_path), "data.tokens_dir": str(shared / "tokens")}
    settings["training.epochs"] = 12
    return tmp_path, write_sweep(tmp_path, settings, sampler="random", trials=8)
