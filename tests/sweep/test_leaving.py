"""Which trainings are marked to leave, and when. Whole sweeps on machines that are drained: test_faults_of_workers."""

import threading
import time

import pytest

from toconv.paths import TrialPaths
from toconv.sweep import leaving
from toconv.sweep.leaving import DrainedHere


@pytest.fixture
def paths(tmp_path):
    return TrialPaths(tmp_path)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def watches():
    return [thread for thread in threading.enumerate() if thread.name == "drained"]


def test_a_training_is_marked_at_the_next_look_after_its_machine_is_drained_and_not_before(paths, monkeypatch):
    """And once: whoever goes on with it elsewhere takes the mark away."""
    monkeypatch.setattr(leaving, "OWN_LOOK_SECONDS", 0.01)
    looks, drained = [], threading.Event()

    def is_drained():
        looks.append(drained.is_set())
        return drained.is_set()

    watch = DrainedHere(paths, is_drained)
    wait_for(lambda: len(looks) > 3)
    assert not paths.leave.exists()
    drained.set()
    wait_for(paths.leave.exists)
    wait_for(lambda: not watches())
    assert looks.count(True) == 1
    watch.close()


def test_a_worker_that_is_done_with_a_training_looks_no_more(paths, monkeypatch):
    monkeypatch.setattr(leaving, "OWN_LOOK_SECONDS", 0.01)
    watch = DrainedHere(paths, lambda: False)
    watch.close()
    wait_for(lambda: not watches())
    assert not paths.leave.exists()
