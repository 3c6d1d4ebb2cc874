"""Whether a sweep runs, told from outside: by real processes."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.repository import REPOSITORY
from toconv.errors import MachineryError
from toconv.paths import SweepPaths
from toconv.sweep.running import SILENT_SECONDS, Announcement, Standing, running, standing

DRIVER = """
import sys, time
from pathlib import Path
from toconv.paths import SweepPaths
from toconv.sweep.running import Announcement
with Announcement(SweepPaths(Path(sys.argv[1])), 3) as announcement:
    announcement.tell(left=4, slots=1)
    print("told", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path)


def now(paths):
    return standing(paths, running(paths))


def altered(paths, **changes):
    paths.running.write_text(json.dumps({**json.loads(paths.running.read_text()), **changes}))


def test_it_runs_while_its_process_lives_and_has_stopped_once_that_is_killed(paths):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", DRIVER, str(paths.root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "told\n"
        assert now(paths) is Standing.RUNNING and running(paths).pid == process.pid
        process.kill()
    assert now(paths) is Standing.STOPPED and running(paths).left == 4


def test_a_later_process_of_the_same_number_is_not_taken_for_the_driver(paths):
    with Announcement(paths, 3) as announcement:
        announcement.tell(left=1)
        assert now(paths) is Standing.RUNNING
        altered(paths, began=running(paths).began - 60)
        assert now(paths) is Standing.STOPPED


def test_of_a_sweep_whose_folder_is_removed_in_the_middle_of_a_look_nothing_is_known(paths):
    Announcement(paths, 3).tell(left=1)
    told = running(paths)
    paths.running.unlink()
    assert standing(paths, told) is Standing.UNKNOWN


def test_a_driver_of_another_machine_is_believed_while_it_writes(paths):
    Announcement(paths, 3).tell(left=1)
    altered(paths, host="elsewhere", pid=1)
    assert now(paths) is Standing.RUNNING
    os.utime(paths.running, (0, time.time() - SILENT_SECONDS - 1))
    assert now(paths) is Standing.STOPPED


@pytest.mark.parametrize(
    ("left", "error", "expected", "said"),
    [
        (0, None, Standing.DONE, None),
        (2, None, Standing.STOPPED, None),
        (2, MachineryError("the disk is full"), Standing.STOPPED, "the disk is full"),
        (0, KeyboardInterrupt(), Standing.STOPPED, "interrupted"),
    ],
)
def test_what_ended_it_is_kept(paths, left, error, expected, said):
    with suppress(MachineryError, KeyboardInterrupt), Announcement(paths, 3) as announcement:
        announcement.tell(left=left)
        if error:
            raise error
    assert (now(paths), running(paths).error) == (expected, said)


def test_a_sweep_that_was_refused_leaves_what_the_one_before_told(paths):
    with Announcement(paths, 3) as announcement:
        announcement.tell(left=0)
    with pytest.raises(MachineryError), Announcement(paths, 3):
        raise MachineryError("no room")
    assert now(paths) is Standing.DONE


def test_a_file_that_is_none_of_ours_is_as_if_there_were_none(paths):
    assert now(paths) is Standing.UNKNOWN
    paths.running.write_text("{")
    assert now(paths) is Standing.UNKNOWN
