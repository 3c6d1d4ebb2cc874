import json
import os
import subprocess
import sys

import pytest

from benchmarks.many_trials import CALLS, WHOLE, growth, late, told
from benchmarks.timed_sweep import DRIVER, TRIALS, Times
from tests.repository import REPOSITORY


def stage(count, p):
    """Calls that take count^p seconds, of a stage of two trials."""
    return {part: [0.0, float(count**p)] for part in (*CALLS, *WHOLE)} | {TRIALS: [6.0], DRIVER: [1.0]}


def test_each_call_of_a_part_is_timed_by_each_clock_also_one_that_raises():
    class Work:
        def double(self, x, fails=False):
            if fails:
                raise ValueError
            return 2 * x

    ticks, times = iter([1.0, 10.0, 3.0, 14.0, 5.0, 20.0, 6.0, 21.0]), Times()
    times.of(Work, "double", {"one": lambda: next(ticks), "other": lambda: next(ticks)})
    assert Work().double(3) == 6
    with pytest.raises(ValueError):
        Work().double(3, fails=True)
    assert times.found == {"one": [2.0, 1.0], "other": [4.0, 1.0]}


def test_a_call_whose_result_does_not_count_is_not_timed():
    class Work:
        def given(self, x):
            return x

    ticks, times = iter([1.0, 2.0, 4.0]), Times()
    times.of(Work, "given", {"one": lambda: next(ticks)}, counts=lambda found: found is not None)
    assert Work().given(None) is None and Work().given(7) == 7
    assert times.found == {"one": [2.0]}


def test_a_stage_is_told_of_by_its_own_trials_and_its_last_calls():
    assert late([9.0] * 8 + [1.0, 2.0]) == 1.5 and late([3.0]) == 3.0
    lines = told(100, 2, stage(100, 0.5))
    assert lines[0] == "100 trials: a trial 3.000 s, of the driver's CPU 0.500 s"
    assert "a proposal of the ledger 10000.0 ms" in lines[1] and "results.csv 10.00 s" in lines[2]


def test_growth_is_the_exponent_over_stages():
    lines = growth({count: stage(count, 0.5) for count in (10, 100, 1000)})
    assert lines == [f"{text}: trials^0.50" for text in (*CALLS.values(), *WHOLE.values())]
    assert growth({10: stage(10, 1)}) == []


@pytest.mark.slow
def test_what_is_timed_is_there_in_toconv(tmp_path):
    """Without a sweep: its help, and no call of any part."""
    command = [sys.executable, "-m", "benchmarks.timed_sweep", "found.json", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr
    assert json.loads((tmp_path / "found.json").read_text()) == {}
