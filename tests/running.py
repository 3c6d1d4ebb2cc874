"""How tests run a tiny sweep in a process of its own, and what they ask of its results."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from urllib.request import urlopen

import optuna
import yaml
from mlflow import MlflowClient

from tests import ray_cluster
from tests.forked import Forked
from tests.ports import free_port
from tests.repository import REPOSITORY
from toconv.paths import SweepPaths
from toconv.sweep.search.ledger_place import Database, recorded_place

SIZES, TRIALS = [2, 3], 2
SERVER_SECONDS = 180  # that a server may take to answer on a busy machine


def write_sweep(folder, overrides, **changes):
    """One trial at a time: a second worker would import for longer than it trains."""
    content = {
        "name": "tiny",
        "settings": {k: v for k, v in overrides.items() if k != "model.compressor.output_grid_size"},
        "grid": {"model.compressor.output_grid_size": SIZES},
        "search": {
            "loss.lambda_gp": {"low": 0.1, "high": 100, "log": True},
            "training.n_critic": {"low": 1, "high": 3, "type": "int"},
        },
        "objectives": {"distortion": "minimize", "perception": "minimize"},
        "trials": TRIALS,
        "resources": {"cpu": min(2, len(os.sched_getaffinity(0)))},
        **changes,
    }
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def command(*arguments):
    return [sys.executable, str(REPOSITORY / "run_sweep.py"), *map(str, arguments)]


def run(folder, *arguments, timeout=300, **environment):
    """A sweep to its end. With an environment of its own it starts as people start it."""
    if not environment:
        return start(folder, *arguments).completed(timeout)
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
    )


def toconv_command(folder, *words, **environment):
    """`toconv WORDS` in that folder, with no more of this process's environment than a path and a ledger's password."""
    password = {name: os.environ[name] for name in ("PGPASSWORD",) if name in os.environ}
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", **password, **environment}
    return Forked(folder, REPOSITORY / "toconv" / "__main__.py", words, environment).completed(300)


def start(folder, *arguments, **environment):
    """A sweep that joins the Ray cluster of this process of the tests."""
    joined = {**os.environ, **ray_cluster.environment(), **environment}
    return Forked(folder, REPOSITORY / "run_sweep.py", arguments, joined)


def start_alone(folder, *arguments):
    """A sweep that starts a Ray cluster of its own."""
    return Forked(folder, REPOSITORY / "run_sweep.py", arguments)


def started_anew(folder, *arguments):
    """As a terminal starts it: in a process group of its own, with a Ray cluster of its own."""
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def rows(folder, name="tiny"):
    with SweepPaths(folder / "outputs" / name).results.open() as file:
        return list(csv.DictReader(file))


def trial_rows(folder, name="tiny"):
    return [row for row in rows(folder, name) if row["kind"] == "trial"]


def mlflow_runs(uri, name="tiny"):
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    return client, client.search_runs([experiment.experiment_id], max_results=1000)


def optuna_trials(folder, name="tiny"):
    place = recorded_place(SweepPaths(folder / "outputs" / name))
    storage, within = (place.address, f"{place.name}/") if isinstance(place, Database) else (f"sqlite:///{place}", "")
    names = [found for found in optuna.get_all_study_names(storage) if found.startswith(within)]
    return [t for found in names for t in optuna.load_study(study_name=found, storage=storage).trials]


def epochs_of(trial_folder):
    return [json.loads(line)["epoch"] for line in (trial_folder / "metrics.jsonl").read_text().splitlines()]


def wait_for_epochs(folder, process, count, name="tiny"):
    """Until some trial has more than `count` epochs behind it; returns its folder."""
    trials = folder / "outputs" / name / "trials"
    while True:
        for path in trials.glob("*/metrics.jsonl"):
            if len(path.read_text().splitlines()) > count and not (path.parent / "finished").exists():
                return path.parent
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def assert_as_undisturbed(folder, reference, uri, name="tiny"):
    """The trials of the undisturbed run `reference` (rows of its results.csv), with their very values, each exactly
    once in results.csv, in Optuna and in MLflow, and each epoch once."""
    found = trial_rows(folder, name)
    measured = ("distortion", "distortion_ridge", "perception", "embedding_agreement", "cosine", "state", "tokens")
    assert {r["trial_id"]: [r[m] for m in measured] for r in found} == {
        r["trial_id"]: [r[m] for m in measured] for r in reference
    }
    assert len(found) == len(reference)
    trials = optuna_trials(folder, name)
    assert Counter(t.user_attrs["trial_id"] for t in trials) == Counter(r["trial_id"] for r in reference)
    assert {t.state.name for t in trials} == {"COMPLETE"}
    client, runs = mlflow_runs(uri, name)
    assert len(runs) == 1 + len(rows(folder, name)) and {r.info.status for r in runs} == {"FINISHED"}
    children = {r.data.tags.get("trial.hash"): r for r in runs}
    for row in reference:
        epochs = epochs_of(folder / "outputs" / name / "trials" / row["trial_id"])
        assert epochs == list(range(1, len(epochs) + 1))
        history = client.get_metric_history(children[row["trial_id"]].info.run_id, "distortion")
        assert [m.step for m in history] == epochs
        assert history[-1].value == float(row["distortion"])


@contextmanager
def serving(folder, path, *arguments):
    """A command that serves at a free port, which it is given by `--port`; yields its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    process = subprocess.Popen(
        [*arguments, "--port", str(port)],
        cwd=folder,
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: urlopen(f"{address}{path}").status == 200)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SERVER_SECONDS)


def until(done, seconds=SERVER_SECONDS):
    end = time.monotonic() + seconds
    while True:
        try:
            assert done()
            return
        except (OSError, AssertionError):
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
