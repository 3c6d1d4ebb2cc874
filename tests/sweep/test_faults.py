"""Faults on real processes. After each, the same command ends with the trials of an undisturbed run.

docs/faults.md tells of them in prose.
"""

import json
import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from urllib.request import urlopen

import pytest

from tests.sweep.running import (
    assert_as_undisturbed,
    epochs_of,
    mlflow_runs,
    rows,
    run,
    start,
    trial_rows,
    wait_for_epochs,
    write_sweep,
)
from toconv.paths import REPOSITORY, TrialPaths

EPOCHS, KILLS = 40, 20


@pytest.fixture(scope="module")
def settings(overrides):
    return {**overrides[1], "training.epochs": EPOCHS, "training.checkpoint_every": 1}


@pytest.fixture(scope="module")
def reference(settings, tmp_path_factory):
    """The rows of an undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    done = run(folder, write_sweep(folder, {**settings, "experiment.tracking_uri": uri}, sampler="random"))
    assert done.returncode == 0, done.stderr
    return trial_rows(folder)


class Disturbed:
    """The reference's sweep in a folder of its own."""

    def __init__(self, folder, settings):
        self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
        self.file = write_sweep(folder, {**settings, "experiment.tracking_uri": self.uri}, sampler="random")

    def start(self):
        return start(self.folder, self.file)

    def trial_after(self, process, epochs):
        return wait_for_epochs(self.folder, process, epochs)

    def trial(self, row):
        return self.folder / "outputs" / "tiny" / "trials" / row["trial_id"]

    def stop_after(self, epochs):
        """Kill the driver once a trial has more than so many epochs; returns that trial's folder."""
        process = self.start()
        trial = self.trial_after(process, epochs)
        process.kill()
        process.communicate()
        time.sleep(2)  # workers outlive the driver by so long
        return trial

    def ends_as(self, reference):
        done = run(self.folder, self.file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert_as_undisturbed(self.folder, reference, self.uri)
        return done


@pytest.fixture
def disturbed(settings, tmp_path):
    return Disturbed(tmp_path, settings)


def ended(process, seconds=60):
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


@pytest.mark.timeout(1800)
def test_twenty_kills_of_the_driver_at_random_moments(disturbed, reference):
    draw, began = random.Random(0), 0
    for number in range(KILLS):
        process = disturbed.start()
        if number % 4 == 0:
            time.sleep(draw.uniform(0.5, 9))  # while it starts
        else:
            trials = disturbed.folder / "outputs" / "tiny" / "trials"
            before = sum(len(p.read_text().splitlines()) for p in trials.glob("*/metrics.jsonl"))
            while process.poll() is None and sum(
                    len(p.read_text().splitlines()) for p in trials.glob("*/metrics.jsonl")) <= before:
                time.sleep(0.02)
            began += process.poll() is None
            time.sleep(draw.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL) if number % 2 else process.kill()
        process.communicate()
    assert began >= KILLS / 2  # most kills landed in training
    disturbed.ends_as(reference)


def test_a_sampler_that_learns_ends_with_the_same_count_in_each_cell_and_nothing_twice(settings, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    file = write_sweep(tmp_path, {**settings, "experiment.tracking_uri": uri}, sampler="tpe", trials=3)
    for epochs in (2, 20, 5):
        process = start(tmp_path, file)
        wait_for_epochs(tmp_path, process, epochs)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = run(tmp_path, file)
    assert done.returncode == 0, done.stderr
    found = trial_rows(tmp_path)
    assert Counter(r["cell"] for r in found) == {"k=2": 3, "k=3": 3}
    assert len({(r["cell"], r["loss.lambda_gp"], r["training.n_critic"]) for r in found}) == 6
    assert_as_undisturbed(tmp_path, found, uri)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_trials_end_their_epoch_and_the_same_command_goes_on(disturbed, reference, number):
    process = disturbed.start()
    trial = disturbed.trial_after(process, 2)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    code, stdout, stderr = ended(process)
    assert code == 130 and "to go on: python" in stderr.splitlines()[-1] and "end their epoch and save" in stdout
    assert all(run.info.status in {"FINISHED", "KILLED", "RUNNING"} for run in mlflow_runs(disturbed.uri)[1])
    saved = epochs_of(trial)
    disturbed.ends_as(reference)
    assert epochs_of(trial)[:len(saved)] == saved


def test_interrupted_twice_it_stops_at_once(overrides, tmp_path, reference):
    _, settings = overrides
    slow = Disturbed(tmp_path, {**settings, "training.epochs": 3, "data.crops": 400})
    process = slow.start()
    trials = tmp_path / "outputs" / "tiny" / "trials"
    while not list(trials.glob("*/worker.json")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    start_ = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    code, _, stderr = ended(process)
    assert code == 130 and "to go on: python" in stderr and time.monotonic() - start_ < 40


def test_a_killed_worker_is_replaced_and_goes_on_from_its_checkpoint(disturbed, reference):
    process = disturbed.start()
    trial = disturbed.trial_after(process, 3)
    os.kill(json.loads((trial / "worker.json").read_text())["pid"], signal.SIGKILL)
    code, _, stderr = ended(process, 120)
    assert code == 0, stderr
    assert_as_undisturbed(disturbed.folder, reference, disturbed.uri)


def test_a_worker_that_keeps_dying_fails_its_trial_and_the_rest_goes_on(disturbed):
    process, killed = disturbed.start(), set()
    trial = disturbed.trial_after(process, 0)
    while len(killed) < 3:
        pid = json.loads((trial / "worker.json").read_text())["pid"]
        if pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.05)
        assert process.poll() is None
    code, stdout, stderr = ended(process, 120)
    assert code == 3, stdout + stderr
    failed = [r for r in trial_rows(disturbed.folder) if r["state"] == "failed"]
    assert [r["trial_id"] for r in failed] == [trial.name] and "its worker died more than 2 times" in stdout
    assert len([r for r in trial_rows(disturbed.folder) if r["state"] == "complete"]) == 4


def test_a_lost_raylet_ends_with_exit_code_4_within_a_minute(disturbed, reference):
    process = disturbed.start()
    disturbed.trial_after(process, 3)
    children = descendants(process.pid, "raylet")
    assert children
    killed = time.monotonic()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    code, _, stderr = ended(process, 90)
    assert code == 4 and time.monotonic() - killed < 60, stderr
    assert "raylet" in stderr and "to go on: python" in stderr.splitlines()[-1]
    time.sleep(3)
    disturbed.ends_as(reference)


def descendants(pid, name):
    """Processes of that name below `pid`, by /proc."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                head, tail = open(f"/proc/{entry}/stat").read().rsplit(")", 1)
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


def test_trials_of_a_removed_node_go_on_at_the_other(settings, tmp_path):
    """Trials of 400 epochs, so that one worker cannot have run them all before the other node has one."""
    disturbed = Disturbed(tmp_path, {**settings, "training.epochs": 400})
    code = """
import sys, threading, time, json, pathlib
import toconv.sweep.run, ray
from ray.cluster_utils import Cluster
from toconv.sweep.command import sweep
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
other = cluster.add_node(num_cpus=1)
ray.init(cluster.address, include_dashboard=False, log_to_driver=False)
def remove():
    trials = pathlib.Path("outputs/tiny/trials")
    while True:
        nodes = [json.loads(p.read_text())["node"] for p in trials.glob("*/worker.json")
                 if not (p.parent / "finished").exists() and len(list(p.parent.glob("checkpoint_epoch_*.pt"))) > 0]
        if other.node_id in nodes:
            cluster.remove_node(other, allow_graceful=False)
            print("REMOVED", flush=True)
            return
        time.sleep(0.05)
threading.Thread(target=remove, daemon=True).start()
try:
    sys.exit(sweep([sys.argv[1]]))
finally:
    ray.shutdown()
    cluster.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", code, str(disturbed.file)], cwd=disturbed.folder, capture_output=True,
                          text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0 and "REMOVED" in done.stdout, done.stdout + done.stderr
    found = trial_rows(tmp_path)
    assert len(found) == 4 and all(len(epochs_of(disturbed.trial(row))) == 400 for row in found)
    assert_as_undisturbed(tmp_path, found, disturbed.uri)


def test_a_full_disk_while_a_checkpoint_is_written(disturbed, reference):
    """RLIMIT_FSIZE of the worker stands for the full disk: every write past 10 kB fails, as with ENOSPC."""
    process = disturbed.start()
    trial = disturbed.trial_after(process, 3)
    resource.prlimit(json.loads((trial / "worker.json").read_text())["pid"], resource.RLIMIT_FSIZE, (10_000, -1))
    code, _, stderr = ended(process)
    assert code == 4 and "checkpoint not written" in stderr and "to go on: python" in stderr.splitlines()[-1], stderr
    disturbed.ends_as(reference)


def test_a_full_disk_while_the_study_is_written(disturbed, reference):
    process = disturbed.start()
    disturbed.trial_after(process, 3)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, -1))
    code, _, stderr = ended(process)
    assert code == 4 and "to go on: python" in stderr.splitlines()[-1], stderr
    disturbed.ends_as(reference)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_costs_one_interval_at_most(disturbed, reference, damage):
    trial = disturbed.stop_after(6)
    damaged(TrialPaths(trial).latest, damage)
    before = (trial / "metrics.jsonl").read_text().splitlines()
    disturbed.ends_as(reference)
    after = (trial / "metrics.jsonl").read_text().splitlines()
    assert after[:len(before) - 2] == before[:-2]  # nothing older than the checkpoint before it was done again


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_token_shard_is_encoded_anew(disturbed, reference, damage):
    disturbed.stop_after(6)
    shard = sorted((disturbed.folder / "outputs" / "tokens").glob("*/train-*.tokens.fp16"))[0]
    damaged(shard, damage)
    assert "none encoded now" not in disturbed.ends_as(reference).stdout


def damaged(path, damage):
    """A new file with the damage in the old one's place: hard links of the old bytes stay whole."""
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2:]
    else:
        content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_lost(overrides, tmp_path, damage):
    folder, settings = overrides
    pictures = tmp_path / "pictures"
    shutil.copytree(settings["data.root"], pictures)
    bad = sorted(pictures.iterdir())[4]
    whole = bad.read_bytes()
    bad.write_bytes({"truncated": whole[:len(whole) // 2], "empty": b"", "text": b"no picture at all" * 50}[damage])
    sweep = Disturbed(tmp_path, {**settings, "data.root": str(pictures)})
    done = run(tmp_path, sweep.file)
    assert done.returncode == 2 and bad.name in done.stderr
    bad.write_bytes(whole)
    again = run(tmp_path, sweep.file)
    assert again.returncode == 0 and {r["state"] for r in trial_rows(tmp_path)} == {"complete"}


def test_a_study_that_another_process_locks_for_30_seconds_is_waited_for(disturbed, reference):
    process = disturbed.start()
    disturbed.trial_after(process, 3)
    connection = sqlite3.connect(disturbed.folder / "outputs" / "tiny" / "study.db", timeout=30)
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(30)
    connection.rollback()
    connection.close()
    code, _, stderr = ended(process, 120)
    assert code == 0, stderr
    assert_as_undisturbed(disturbed.folder, reference, disturbed.uri)


class Server:
    """`mlflow server` on a free port of this machine."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.uri = folder, f"http://127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}",
             "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(600):
            try:
                return urlopen(f"{self.uri}/health").read()
            except OSError:
                time.sleep(0.1)
        raise AssertionError("mlflow server did not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_a_tracking_server_that_is_restarted_has_missed_nothing(settings, tmp_path, server, reference):
    file = write_sweep(tmp_path, {**settings, "experiment.tracking_uri": server.uri}, sampler="random")
    process = start(tmp_path, file)
    wait_for_epochs(tmp_path, process, 3)
    server.kill()
    time.sleep(5)
    server.start()
    code, _, stderr = ended(process, 120)
    assert code == 0, stderr
    assert_as_undisturbed(tmp_path, reference, server.uri)


def test_a_tracking_server_that_hangs_costs_no_trial_and_is_told_later_once(settings, tmp_path, server, reference):
    file = write_sweep(tmp_path, {**settings, "experiment.tracking_uri": server.uri}, sampler="random")
    process = start(tmp_path, file)
    wait_for_epochs(tmp_path, process, 3)
    os.killpg(server.process.pid, signal.SIGSTOP)
    code, stdout, stderr = ended(process, 180)
    os.killpg(server.process.pid, signal.SIGCONT)
    assert code == 0 and "not delivered" in stdout, stdout + stderr
    time.sleep(3)
    again = run(tmp_path, file)
    assert again.returncode == 0, again.stderr
    assert_as_undisturbed(tmp_path, reference, server.uri)


def test_a_tracking_server_that_is_gone_costs_nothing_and_is_told_later_once(settings, tmp_path, server, reference):
    server.kill()
    file = write_sweep(tmp_path, {**settings, "experiment.tracking_uri": server.uri}, sampler="random")
    done = run(tmp_path, file)
    assert done.returncode == 0 and "not delivered" in done.stdout, done.stdout + done.stderr
    assert {r["state"] for r in trial_rows(tmp_path)} == {"complete"}
    server.start()
    for _ in range(2):
        synced = subprocess.run([sys.executable, "-m", "toconv.sweep.sync", "tiny"], cwd=tmp_path, capture_output=True,
                                text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=120)
        assert synced.returncode == 0 and "are in MLflow" in synced.stdout, synced.stderr
        assert_as_undisturbed(tmp_path, reference, server.uri)
    assert all(row["mlflow_run_id"] for row in rows(tmp_path))
