"""Workers and nodes that go away for good, samplers that learn, and a second Ctrl-C: each on a sweep of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.repository import REPOSITORY
from tests.running import assert_as_undisturbed, run, start, start_alone, trial_rows, wait_for_epochs, write_sweep
from tests.sweep.faults import Disturbed, ended

pytestmark = pytest.mark.slow


def test_a_sampler_that_learns_ends_with_the_same_count_in_each_cell_and_nothing_twice(
    long_settings, tmp_path, ledger_in
):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = {**long_settings, "training.epochs": 30, "experiment.tracking_uri": uri}
    file = write_sweep(tmp_path, settings, sampler="tpe", trials=3, **ledger_in)
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


def test_interrupted_twice_it_stops_at_once(long_settings, tmp_path, ledger_in):
    """In an epoch of minutes: a step has twenty thousand critic steps."""
    settings = {
        **long_settings,
        "training.n_critic": 20_000,
        "experiment.tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
    }
    search = {"loss.lambda_gp": {"low": 0.1, "high": 100, "log": True}}
    process = start_alone(tmp_path, write_sweep(tmp_path, settings, search=search, **ledger_in))
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
    assert not list(trials.glob("*/latest.pt"))  # no epoch was waited for


def kill_workers(disturbed, process, trial, times, epochs):
    """Kill those of one trial, each once it has taken so many epochs."""
    killed = set()
    while len(killed) < times:
        pid = json.loads((trial / "worker.json").read_text())["pid"]
        before = disturbed.lines().get(trial, 0)
        while pid not in killed and disturbed.lines().get(trial, 0) < before + epochs:
            assert process.poll() is None
            time.sleep(0.02)
        if pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.05)
        assert process.poll() is None


def test_a_trial_goes_on_as_long_as_its_workers_take_epochs_before_they_die(long_settings, tmp_path, reference):
    disturbed = Disturbed(tmp_path, long_settings)
    process = disturbed.start()
    kill_workers(disturbed, process, disturbed.trial_after(process, 0), times=4, epochs=2)
    code, stdout, stderr = ended(process, 300)
    assert code == 0, stdout + stderr
    assert re.search(r"its worker died more than 2 times; it goes on from epoch \d", " ".join(stdout.split()))
    assert_as_undisturbed(tmp_path, reference, disturbed.uri)


def test_a_worker_that_keeps_dying_fails_its_trial_and_the_rest_goes_on(long_settings, tmp_path):
    disturbed = Disturbed(tmp_path, {**long_settings, "training.epochs": 20})
    process = disturbed.start()
    trial = disturbed.trial_after(process, 1)  # the second begins once the driver has heard of the first
    killed = set()
    while process.poll() is None:  # the first three after an epoch, and however often one takes one more
        pid = json.loads((trial / "worker.json").read_text())["pid"]
        if pid not in killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(0.01)
    code, stdout, stderr = ended(process, 300)
    assert len(killed) >= 6
    assert code == 3, stdout + stderr
    failed = [r for r in trial_rows(disturbed.folder) if r["state"] == "failed"]
    assert [r["trial_id"] for r in failed] == [trial.name]
    assert "its worker died more than 2 times with no epoch in between" in " ".join(stdout.split())
    assert len([r for r in trial_rows(disturbed.folder) if r["state"] == "complete"]) == 4


def test_a_trial_that_is_over_its_time_ends_with_its_worker_and_is_drawn_anew_once(long_settings, tmp_path, reference):
    """Its epochs take minutes, as in the test of a second Ctrl-C; 12 s are allowed, and what is computed once a store
    is there by `reference`."""
    settings = {**long_settings, "training.n_critic": 20_000, "hardware.threads": 1}
    settings["experiment.tracking_uri"] = f"sqlite:///{tmp_path}/mlflow.db"
    grid, search = {"model.compressor.output_grid_size": [2]}, {"loss.lambda_gp": {"low": 0.1, "high": 100}}
    file = write_sweep(tmp_path, settings, search=search, grid=grid, trials=1, limits={"trial_minutes": 0.2})
    done = run(tmp_path, file)
    assert done.returncode == 3, done.stdout + done.stderr
    found = trial_rows(tmp_path)
    assert [row["state"] for row in found] == ["failed"] * 2
    assert done.stdout.count("over limits.trial_minutes; where it was:") >= 2
    for row in found:
        assert "critic" in (tmp_path / "outputs" / "tiny" / "trials" / row["trial_id"] / "error.txt").read_text()


OUT_OF_MEMORY = """
import pathlib, sys
import toconv.sweep.tune.run, ray
from toconv.__main__ import main
ray.init("local", num_cpus=4, include_dashboard=False)
Watch, often = toconv.sweep.tune.run.Watch, int(sys.argv[1])
inner = Watch.stop_all
def under_way(trial):
    return list(trial.glob("checkpoint_epoch_*.pt")) and not (trial / "finished").exists()
def stop_all(watch):
    global often
    if often and len([*filter(under_way, pathlib.Path("outputs/tiny/trials").glob("*"))]) > 1 - (often > 9):
        often -= 1
        gone = ray.exceptions.OutOfMemoryError("Memory on the node was 22.44GB used / 23.54GB limit\\nand more")
        raise RuntimeError("Caught unexpected exception") from gone
    return inner(watch)
Watch.stop_all = stop_all
sys.exit(main(["sweep", *sys.argv[2:]]))
"""


def out_of_memory(disturbed, often):
    """The sweep with 4 trials at a time, so often with no memory left while two have epochs behind them, as Tune tells
    of it; of many times each."""
    return subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(often), str(disturbed.file)],
        cwd=disturbed.folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_where_a_machines_memory_runs_out_half_as_many_trials_go_on_from_their_checkpoints(
    long_settings, tmp_path, reference
):
    disturbed = Disturbed(tmp_path, long_settings)
    done = out_of_memory(disturbed, 1)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.sub(r"\s+", " ", done.stdout)
    at_work = int(re.search(r"with (\d) trial\(s\) at work: 22.44GB used / 23.54GB limit", told)[1])
    assert f"; {at_work // 2} at a time go on from their checkpoints" in told
    assert_as_undisturbed(tmp_path, reference, disturbed.uri)


def test_where_one_trial_is_too_much_for_a_machines_memory_the_sweep_ends_and_goes_on_later(
    long_settings, tmp_path, reference
):
    disturbed = Disturbed(tmp_path, long_settings)
    done = out_of_memory(disturbed, 100)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "; 1 at a time go on from their checkpoints" in re.sub(r"\s+", " ", done.stdout)
    assert "a machine's memory ran out with 1 trial(s) at work: 22.44GB used / 23.54GB limit" in done.stderr
    assert "Traceback" not in done.stderr
    disturbed.ends_as(reference)


TWO_NODES = """
import json, pathlib, sys, threading, time
import toconv.sweep.tune.run, ray
from ray.cluster_utils import Cluster
from toconv.commands.sweep import main
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
other = cluster.add_node(num_cpus=1)
ray.init(cluster.address, include_dashboard=False, log_to_driver=False)
@ray.remote(num_cpus=1, label_selector={"ray.io/node-id": cluster.head_node.node_id})
class Busy:
    def here(self): pass
busy = Busy.remote()
ray.get(busy.here.remote())
def remove():
    cluster.remove_node(other, allow_graceful=False)
def drain():
    reason, deadline = ray.core.generated.autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, 1000 * (time.time() + 600)
    gcs = ray._raylet.GcsClient(address=cluster.address)
    assert gcs.drain_node(other.node_id, reason, "a test", int(deadline))[0]
def disturb():
    trials = pathlib.Path("outputs/tiny/trials")
    while True:
        nodes = [json.loads(p.read_text())["node"] for p in trials.glob("*/worker.json")
                 if not (p.parent / "finished").exists() and len(list(p.parent.glob("checkpoint_epoch_*.pt"))) > 0]
        if other.node_id in nodes:
            ray.kill(busy)
            {"remove": remove, "drain": drain}[sys.argv[2]]()
            print("DISTURBED", other.node_id, flush=True)
            return
        time.sleep(0.05)
threading.Thread(target=disturb, daemon=True).start()
try:
    sys.exit(main([sys.argv[1]]))
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.parametrize("what", ["remove", "drain"])
def test_trials_of_a_node_that_goes_go_on_at_another(long_settings, tmp_path, reference, what):
    """The other node is busy until a trial is on this one, else it could have run them all before."""
    disturbed = Disturbed(tmp_path, long_settings)
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, str(disturbed.file), what],
        cwd=disturbed.folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0 and "DISTURBED" in done.stdout, done.stdout + done.stderr
    (node,) = re.findall(r"DISTURBED (\w+)", done.stdout)
    found = trial_rows(tmp_path)
    assert_as_undisturbed(tmp_path, reference, disturbed.uri)
    if what == "drain":
        assert f"node {node[:8]} is drained; trials that save at their next step and go on elsewhere: k=" in done.stdout
        workers = [json.loads((disturbed.trial(row) / "worker.json").read_text()) for row in found]
        assert sum(worker["node"] == node for worker in workers) <= 1, "of the first, if it had ended by then"
        assert not list(disturbed.trials.glob("*/interrupted.pt"))
