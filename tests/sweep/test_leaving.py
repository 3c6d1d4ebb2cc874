"""Which trainings are marked to leave, and when. Whole sweeps on machines that are drained: test_faults_of_workers."""

import socket
import threading
import time
from types import SimpleNamespace

import pytest

from toconv import object_store
from toconv.object_store import ObjectStore
from toconv.paths import SweepPaths, TrialPaths
from toconv.sweep import leaving
from toconv.sweep.leaving import DrainedHere, Leaving


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


def test_an_object_store_that_does_not_answer_holds_up_nobody_who_is_to_leave(tmp_path, s3, monkeypatch):
    """The driver marks those that it sees, in every round, and waits for no answer."""
    monkeypatch.setattr(leaving, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(object_store, "WAITS", ())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"?scheme=http&endpoint_override=127.0.0.1:{silent.getsockname()[1]}&region=us-east-1"
        paths, remote = SweepPaths(tmp_path), ObjectStore(s3.url + address)
        driver = SimpleNamespace(open=dict.fromkeys(["first", "second"]), paths=paths, remote=remote)
        marks = Leaving(driver, draining=lambda: ())
        for _ in range(2):
            marks.poll(everybody=True)
            for mark in (paths.trial(name).leave for name in driver.open):
                mark.unlink()
        asking = [thread for thread in threading.enumerate() if thread.name == "asks the object store"]
        assert len(asking) == 1, "it asks still, and once"
    asking[0].join(60)
