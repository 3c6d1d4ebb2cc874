import os
import time
from types import SimpleNamespace

import pytest

from benchmarks.gpu import forked
from benchmarks.gpu.forked import CutOff, at_once, once, stream


def test_values_come_from_another_process_one_by_one():
    def work():
        yield os.getpid()
        yield [1, 2]

    process, value = stream(work, 10)
    assert process != os.getpid() and value == [1, 2]
    assert once(os.getpid, 10) != os.getpid()


def test_what_a_cut_off_process_started_ends_with_it(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(forked, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def work():
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        yield child
        time.sleep(60)

    values = stream(work, 60)
    child = next(values)
    clock.now = 61.0
    with pytest.raises(CutOff, match="cut off after 60 s"):
        next(values)
    deadline = time.monotonic() + 10
    while running(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_side_by_side_wait_for_each_other_and_answer_in_their_order():
    def work(place, ready):
        if not place:
            time.sleep(0.3)
        asked = time.monotonic()
        ready()
        return place, asked, time.monotonic()

    found = at_once([lambda ready, place=place: work(place, ready) for place in range(3)], 60)
    places, asked, went_on = zip(*found, strict=True)
    assert places == (0, 1, 2) and max(asked) <= min(went_on)


def test_one_that_fails_ends_all_at_once():
    def fails(ready):
        raise ValueError("this one")

    def waits(ready):
        ready()

    start = time.monotonic()
    with pytest.raises(RuntimeError, match="ValueError: this one"):
        at_once([waits, fails], 60)
    with pytest.raises(RuntimeError, match="ended by itself"):
        at_once([waits, lambda ready: os._exit(1)], 60)
    with pytest.raises(CutOff):
        at_once([lambda ready: time.sleep(60)], 0.2)
    assert time.monotonic() - start < 30
