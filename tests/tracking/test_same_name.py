"""Sweeps of one name with one store of MLflow: each has its own runs, which say what its results.csv says."""

import shutil

import pytest
import yaml
from mlflow import MlflowClient

from tests.running import mlflow_runs, optuna_trials, rows, run, toconv_command, write_sweep
from toconv.paths import SweepPaths
from toconv.sweep.recorded import read_request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pair(overrides):
    """Two folders with the same sweep, run one after the other, and the address of their store."""
    base, settings = overrides
    folders = base / "one", base / "other"
    for folder in folders:
        folder.mkdir()
        started(folder, settings)
    return *folders, settings


def started(folder, settings, **changes):
    done = run(folder, write_sweep(folder, settings, **{"baselines": False, **changes}))
    assert done.returncode == 0, done.stderr


def recorded(folder):
    return read_request(SweepPaths(folder / "outputs" / "tiny"))


def runs_below(parent, uri):
    return [r for r in mlflow_runs(uri)[1] if r.data.tags.get("mlflow.parentRunId") == parent]


def parent_of(folder, uri):
    """The parent of the runs that results.csv names, which say what it says, as Optuna does."""
    client, found = MlflowClient(uri), rows(folder)
    parents = {client.get_run(row["mlflow_run_id"]).data.tags["mlflow.parentRunId"] for row in found}
    (parent,) = parents
    children = {r.data.tags["trial.hash"]: r for r in runs_below(parent, uri)}
    assert len(runs_below(parent, uri)) == len(found) == len(optuna_trials(folder))
    assert children.keys() == {t.user_attrs["trial_id"] for t in optuna_trials(folder)}
    for row in found:
        told = children[row["trial_id"]]
        assert told.info.run_id == row["mlflow_run_id"] and told.data.tags["state"] == row["state"]
        assert told.data.metrics["distortion"] == float(row["distortion"])
        history = client.get_metric_history(row["mlflow_run_id"], "distortion")
        assert [m.step for m in history] == [*range(1, len(history) + 1)]
    return parent


def state(parent, uri):
    return [r.to_dictionary() for r in (MlflowClient(uri).get_run(parent), *runs_below(parent, uri))]


def test_each_has_its_own_runs_and_keeps_them_as_it_grows(pair):
    one, other, settings = pair
    uri = settings["experiment.tracking_uri"]
    parents, its_id = [parent_of(folder, uri) for folder in (one, other)], recorded(one)["id"]
    assert len(set(parents)) == 2 and recorded(other)["id"] != its_id
    tags = [MlflowClient(uri).get_run(parent).data.tags for parent in parents]
    assert [t["toconv.sweep_id"] for t in tags] == [its_id, recorded(other)["id"]]
    assert [t["toconv.folder"].partition(":")[2] for t in tags] == [str(f / "outputs" / "tiny") for f in (one, other)]
    before = state(parents[1], uri)
    started(one, settings, trials=3)
    assert parent_of(one, uri) == parents[0] and recorded(one)["id"] == its_id
    assert state(parents[1], uri) == before


def test_one_whose_folder_was_removed_begins_anew_and_leaves_the_earlier_runs_as_they_are(pair):
    one, _, settings = pair
    uri = settings["experiment.tracking_uri"]
    earlier = parent_of(one, uri)
    before = state(earlier, uri)
    shutil.rmtree(one / "outputs" / "tiny")
    started(one, {**settings, "training.epochs": 2})
    assert parent_of(one, uri) != earlier and state(earlier, uri) == before


def test_one_that_moved_or_was_begun_by_an_earlier_version_goes_on_with_its_runs(pair):
    one, other, settings = pair
    uri, moved = settings["experiment.tracking_uri"], other.with_name("moved")
    parent, count = parent_of(other, uri), len(mlflow_runs(uri)[1])
    other.rename(moved)
    started(moved, settings)
    assert parent_of(moved, uri) == parent
    request = SweepPaths(moved / "outputs" / "tiny").request
    written = yaml.safe_load(request.read_text())
    del written["id"]
    request.write_text(yaml.safe_dump(written, sort_keys=False))
    MlflowClient(uri).delete_tag(parent, "toconv.sweep_id")
    done = toconv_command(moved, "sync", "tiny")
    assert done.returncode == 0, done.stderr
    started(moved, settings)
    assert parent_of(moved, uri) == parent and "id" not in recorded(moved)
    assert len(mlflow_runs(uri)[1]) == count
