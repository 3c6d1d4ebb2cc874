"""Faults of processes, one after the other on one sweep, which ends with the trials of an undisturbed run.

docs/faults.md tells of all faults in prose.
"""

import json
import os
import signal
import time

import pytest

from tests.running import epochs_of, mlflow_runs, start_alone
from tests.sweep.faults import Disturbed, ended, kill_often, lose_raylet

pytestmark = pytest.mark.slow
KILLS = 5  # two while it starts; `make chaos` has twenty


@pytest.mark.timeout(900)
def test_the_driver_is_killed_at_random_moments(disturbed):
    assert kill_often(disturbed, KILLS) >= KILLS / 2


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_the_driver_is_killed_twenty_times_at_random_moments(long_settings, tmp_path, reference):
    disturbed = Disturbed(tmp_path, long_settings)
    assert kill_often(disturbed, 20) >= 10
    disturbed.ends_as(reference)


@pytest.mark.parametrize(
    ("number", "what"), [(signal.SIGINT, "end their epoch and save"), (signal.SIGTERM, "save at their next step")]
)
def test_interrupted_once_trials_save_and_the_same_command_goes_on(disturbed, number, what):
    process = disturbed.start(start_alone)
    trial = disturbed.trial_after(process, 2)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    code, stdout, stderr = ended(process)
    assert code == 130 and "to go on: python" in stderr.splitlines()[-1] and what in stdout
    assert all(run.info.status in {"FINISHED", "KILLED", "RUNNING"} for run in mlflow_runs(disturbed.uri)[1])
    saved = epochs_of(trial)

    def nothing_saved_was_done_again():
        assert epochs_of(trial)[: len(saved)] == saved

    disturbed.checks.append(nothing_saved_was_done_again)


def test_a_killed_worker_is_replaced_and_goes_on_from_its_checkpoint(disturbed):
    process = disturbed.start()
    trial = disturbed.trial_after(process, 3)
    pid = json.loads((trial / "worker.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    done = epochs_of(trial)
    while len(epochs_of(trial)) <= len(done) + 1:
        assert process.poll() is None
        time.sleep(0.05)
    assert json.loads((trial / "worker.json").read_text())["pid"] != pid
    assert epochs_of(trial) == list(range(1, len(epochs_of(trial)) + 1))
    disturbed.stop(process)


def test_a_lost_raylet_ends_with_exit_code_4_within_a_minute(disturbed):
    lose_raylet(disturbed)
