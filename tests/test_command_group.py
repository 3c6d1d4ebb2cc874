"""A command with all that it starts: it ends in time, and with whoever runs it."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.repository import REPOSITORY
from toconv import command_group
from toconv.command_group import CANNOT_START, LOG_BYTES, run_group

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def ran(tmp_path):
    """What a Python text ends with, and what it printed."""

    def running(text, *arguments, seconds=60.0):
        log = tmp_path / "log"
        code = run_group([sys.executable, "-c", text, *map(str, arguments)], seconds, log, tmp_path, os.environ)
        return code, log.read_text()

    return running


@pytest.fixture
def over_once(monkeypatch):
    """The command's time is over as soon as the file given here has content, and not before."""

    def given(path):
        def clock():
            return time.monotonic() + (3600 if path.exists() and path.read_text() else 0)

        monkeypatch.setattr(command_group, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))

    return given


def is_alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(done, seconds=60):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_its_exit_code_and_all_that_it_prints_are_known(ran, tmp_path):
    assert ran("import os, sys; print(os.getcwd()); sys.stderr.write('why'); sys.exit(3)") == (3, f"{tmp_path}\nwhy")
    assert ran("") == (0, "")


def test_the_signal_that_ended_it_is_told_as_a_shell_does(ran):
    assert ran("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")[0] == 128 + signal.SIGKILL


def test_a_program_that_is_not_there_is_named(tmp_path):
    code = run_group(["no-such-program"], 60, tmp_path / "log", tmp_path, os.environ)
    assert code == CANNOT_START and "no-such-program: cannot be started" in (tmp_path / "log").read_text()


def test_no_shell_reads_it_and_its_input_is_empty(ran):
    assert ran("import sys; print(sys.argv[1], repr(sys.stdin.read()))", "$HOME; ls *") == (0, "$HOME; ls * ''\n")


def test_what_has_not_ended_in_time_is_killed_with_children_that_ignore_the_request(
    ran, over_once, tmp_path, monkeypatch
):
    monkeypatch.setattr(command_group, "GRACE_SECONDS", 0.3)
    over_once(tmp_path / "child")
    code, _ = ran(STUBBORN, tmp_path / "child")
    child = (tmp_path / "child").read_text()
    assert code is None
    until(lambda: not is_alive(child))  # what is killed is gone a moment later


def test_a_command_that_is_asked_to_end_may_end_well(ran, over_once, tmp_path):
    over_once(tmp_path / "begun")
    text = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(print('saved')))\n"
        "open(sys.argv[1], 'w').write('begun')\ntime.sleep(60)"
    )
    assert ran(text, tmp_path / "begun") == (None, "saved\n")


def test_nothing_that_it_left_behind_goes_on(ran, tmp_path):
    text = "import os, sys, time\nif os.fork() == 0:\n    time.sleep(600)\nelse:\n    print(os.getpid())"
    begun = time.monotonic()
    assert ran(text)[0] == 0 and time.monotonic() - begun < 30


def test_it_ends_with_whoever_runs_it(tmp_path):
    runner = (
        "import os, sys, pathlib; from toconv.command_group import run_group\n"
        "run_group([sys.executable, '-c', sys.argv[1], sys.argv[2]], 600, pathlib.Path('log'), '.', os.environ)"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", runner, STUBBORN, str(tmp_path / "child")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    asking.kill()
    asking.wait()
    child = (tmp_path / "child").read_text()
    until(lambda: not is_alive(child))


def test_of_much_output_the_end_is_kept(ran):
    code, log = ran("for i in range(200_000): print(i)")
    assert code == 0 and LOG_BYTES <= len(log) <= 2 * LOG_BYTES and log.endswith("199999\n")
