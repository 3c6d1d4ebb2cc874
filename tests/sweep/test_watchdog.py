"""A worker whose trial is over its time: real processes that hang."""

import os
import re
import subprocess
import sys

import pytest

from tests.repository import REPOSITORY
from toconv.paths import TrialPaths
from toconv.sweep.watchdog import Watchdog
from toconv.training.epochs import Epoch

HANGS = {
    "in Python": "while True: pass",
    "in large calls that come and go": """
exec("def f(depth):\\n " + "; ".join(f"v{n} = 0" for n in range(100)) + "\\n if depth: f(depth - 1)")
while True: f(50)
""",
    "in a sleep": "import time; time.sleep(60)",
    "in compiled code that lets no thread run": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
}
WORKER = """
import sys
from pathlib import Path
from toconv.paths import TrialPaths
from toconv.sweep.watchdog import Watchdog
watchdog = Watchdog(TrialPaths(Path(sys.argv[1])), float(sys.argv[2]))
print(watchdog.barked, flush=True)
"""


def worker(folder, minutes, code):
    words = [sys.executable, "-c", WORKER + code, str(folder), str(minutes)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(words, capture_output=True, text=True, timeout=40, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_a_worker_ends_wherever_it_hangs_and_the_next_one_knows(tmp_path, code):
    assert worker(tmp_path, 1 / 60, code).returncode == 1
    done = worker(tmp_path, 1 / 60, "watchdog.stop()")
    assert (done.returncode, done.stdout) == (0, "True\n")
    trace = (tmp_path / "error.txt").read_text().splitlines()
    assert any(re.fullmatch(r'  File "<string>", line (8|10) in <module>', line) for line in trace)
    assert worker(tmp_path, 1 / 60, "watchdog.stop()").stdout == "False\n", "once"


def test_in_time_nothing_is_left(tmp_path):
    done = worker(tmp_path, 1, "watchdog.stop()")
    assert (done.returncode, done.stdout) == (0, "False\n") and not list(tmp_path.iterdir())
    Watchdog(TrialPaths(tmp_path), None).stop()
    assert not list(tmp_path.iterdir())


def test_what_earlier_starts_trained_counts(tmp_path):
    paths = TrialPaths(tmp_path)
    paths.metrics.write_text(Epoch(1, 0, 3600.0, {"distortion": 0.5}).as_line())
    assert worker(tmp_path, 60, "import time; time.sleep(30)").returncode == 1
