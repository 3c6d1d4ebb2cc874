"""Sweeps that are disturbed, and what of them is looked at."""

import json
import os
import random
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from tests.running import assert_as_undisturbed, run, start, start_alone, started_anew, trial_rows, write_sweep
from toconv.paths import TrialPaths

TO_COME = 5  # epochs of a trial that is disturbed


class Disturbed:
    """The reference's sweep in a folder of its own, which one fault after the other may meet."""

    def __init__(self, folder, settings, uri=None, **changes):
        self.folder, self.uri = folder, uri or f"sqlite:///{folder / 'mlflow.db'}"
        settings, self._epochs = {**settings, "experiment.tracking_uri": self.uri}, settings["training.epochs"]
        self.file = write_sweep(folder, settings, **{"sampler": "random", "resources": {"cpu": 1}, **changes})
        self.checks = []  # what is to hold once the sweep has ended
        self._before = {}

    @property
    def trials(self):
        return self.folder / "outputs" / "tiny" / "trials"

    def lines(self):
        """{trial's folder: how many epochs it has}"""
        return {path.parent: len(path.read_text().splitlines()) for path in self.trials.glob("*/metrics.jsonl")}

    def start(self, how=start):
        self._before = self.lines()
        return how(self.folder, self.file)

    def trial_after(self, process, epochs):
        """The folder of a trial that has taken more than so many epochs since the process began, and has TO_COME yet:
        what goes on from an earlier start may be at its end by then, where nothing disturbs it any more."""
        while True:
            for trial, count in self.lines().items():
                if count - self._before.get(trial, 0) > epochs and count <= self._epochs - TO_COME:
                    return trial
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def trial(self, row):
        return self.trials / row["trial_id"]

    def stop_after(self, epochs):
        """Kill the driver once a trial has taken more than so many epochs; returns that trial's folder."""
        process = self.start()
        trial = self.trial_after(process, epochs)
        self.stop(process)
        return trial

    def stop(self, process):
        """Returns what the driver had printed."""
        process.kill()
        stdout, _ = process.communicate()
        self.wait_for_workers()
        return stdout

    def wait_for_workers(self):
        """They outlive the driver by a while."""
        for trial in self.lines():
            with FileLock(TrialPaths(trial).lock, timeout=60):
                pass

    def ends_as(self, reference):
        done = run(self.folder, self.file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert_as_undisturbed(self.folder, reference, self.uri)
        for check in self.checks:
            check()
        return done


def undisturbed(folder, settings, **changes):
    """The rows of the same sweep where nothing disturbs it, one trial at a time."""
    settings = {**settings, "experiment.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}
    done = run(folder, write_sweep(folder, settings, sampler="random", **changes), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return trial_rows(folder)


def wait_for(condition, process):
    """What it gives, once that is something."""
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return found


def trains_on(machine, sweep):
    """What is known of the worker of a trial on that machine that has saved and not ended."""
    for path in sweep.trials.glob("*/worker.json"):
        saved = any(path.parent.glob("checkpoint_epoch_*.pt")) and not (path.parent / "finished").exists()
        if saved and (worker := json.loads(path.read_text()))["pid"] in machine.works():
            return {**worker, "trial": path.parent.name}
    return None


@contextmanager
def halted(trial):
    """The worker of that trial stands still within, so that it cannot end meanwhile."""
    pid = json.loads((trial / "worker.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def ended(process, seconds=300):
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


def descendants(pid, name):
    """Processes of that name below `pid`, by /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                head, tail = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)
            except OSError:
                continue
            parents[int(entry)] = (int(tail.split()[1]), head.split("(", 1)[1])
    below, found = {pid}, []
    for child in sorted(parents):
        if parents[child][0] in below:
            below.add(child)
            if parents[child][1].startswith(name):
                found.append(child)
    return found


def kill_often(disturbed, kills):
    """Kill the driver so often, a quarter of the times while it starts, the rest within 0.4 s of an epoch's end, half
    of them with all of its process group. Returns how many of the rest landed in training."""
    draw, began = random.Random(0), 0
    for number in range(kills):
        process = disturbed.start(started_anew if number % 4 == 0 else start_alone)
        starts = number % 4 == 0
        end = time.monotonic() + (draw.uniform(0.5, 9) if starts else float("inf"))
        before = sum(disturbed._before.values())
        while process.poll() is None and sum(disturbed.lines().values()) <= before and time.monotonic() < end:
            time.sleep(0.02)
        if not starts:
            began += process.poll() is None
            time.sleep(draw.uniform(0, 0.4))
        if number % 2 and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()
    return began


def lose_raylet(disturbed):
    """Kill what holds a Ray cluster of the sweep's own together, once a trial trains there: it ends with exit code 4
    within a minute."""
    process = disturbed.start(start_alone)
    disturbed.trial_after(process, 3)
    children = descendants(process.pid, "raylet")
    assert children
    killed = time.monotonic()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    code, _, stderr = ended(process, 90)
    assert code == 4 and time.monotonic() - killed < 60, stderr
    assert "raylet" in stderr and "to go on: python" in stderr.splitlines()[-1]
    disturbed.wait_for_workers()
