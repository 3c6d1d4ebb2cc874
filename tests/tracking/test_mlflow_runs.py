"""A finished sweep as MLflow's users find it."""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.repository import REPOSITORY
from tests.running import mlflow_runs, rows, run
from toconv.analysis.records import TrialRecord
from toconv.paths import TrialPaths
from toconv.setting_names import changes_a_number
from toconv.settings import ExperimentSettings
from toconv.tracking.mlflow_runs import MlflowTracker
from toconv.tracking.provenance import Provenance
from toconv.training.epochs import read_epochs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(recorded):
    """(client, parent run, {trial_id: run}, rows of results.csv)"""
    client, runs = mlflow_runs(recorded.uri)
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    return client, parent, {r.data.tags["trial.hash"]: r for r in runs if r is not parent}, rows(recorded.folder)


def test_a_sweep_is_an_experiment_of_its_name_that_mlflow_takes_for_model_training(recorded):
    client = MlflowClient(recorded.uri)
    assert {e.name for e in client.search_experiments()} == {"tiny", "Default"}
    assert client.get_experiment_by_name("tiny").tags["mlflow.experimentKind"] == "custom_model_development"


def test_runs_are_named_so_that_one_recognises_them(found):
    _, parent, children, results = found
    assert parent.info.run_name == "tiny"
    for row in results:
        name = children[row["trial_id"]].info.run_name
        k, lambda_gp, n = (
            row[key] for key in ("model.compressor.output_grid_size", "loss.lambda_gp", "training.n_critic")
        )
        searched = f"k={k} λ={float(lambda_gp or 0):.3g} n={n}"
        assert (
            name
            == {"baseline": f"{row['name']} k={k}", "trial": searched, "finalist": f"{searched} seed=1"}[row["kind"]]
        )


def test_tags_say_where_a_run_comes_from(recorded, found):
    _, parent, children, results = found
    commit = subprocess.run(["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True)
    (fingerprint,) = [p.name for p in (recorded.folder / "outputs" / "tokens").iterdir() if p.is_dir()]
    for run_ in (parent, *children.values()):
        tags = run_.data.tags
        assert tags["tokens.fingerprint"] == fingerprint and tags["mlflow.source.name"] == "run_sweep.py"
        assert tags.get("mlflow.source.git.commit", "") == commit.stdout.strip()
    for row in results:
        tags = children[row["trial_id"]].data.tags
        assert [tags[key] for key in ("name", "kind", "cell", "state", "tokens")] == [
            row[key] for key in ("name", "kind", "cell", "state", "tokens")
        ]
        if row["kind"] == "baseline":
            assert "optuna.number" not in tags
        else:
            assert f"{tags['optuna.study']}/{tags['optuna.number']}" == f"tiny/{row['name']}"
            assert tags["optuna.storage"] == "study.db"


def test_params_are_every_setting_that_decides_a_trial_flat_and_plain(recorded, found):
    _, parent, children, results = found
    for row in results:
        params = children[row["trial_id"]].data.params
        assert params["tokens"] == row["tokens"] and params["encoder.name"] == "tiny"
        if row["kind"] == "baseline":
            assert params["model.compressor.output_grid_size"] == row["model.compressor.output_grid_size"]
            continue
        config = yaml.safe_load((TrialPaths(recorded.root / "trials" / row["trial_id"]).config).read_text())
        for group in ("loss", "training"):
            for key, value in config[group].items():
                if value is not None and changes_a_number(f"{group}.{key}"):
                    assert params[f"{group}.{key}"] == str(value), key
        assert float(params["loss.lambda_gp"]) == float(row["loss.lambda_gp"])
        assert params["model.compressor.width"] == "8" and not any("{" in value for value in params.values())
    assert parent.data.params["search.loss.lambda_gp.high"] == "100.0" and parent.data.params["trials"] == "2"


def test_a_metrics_step_is_the_epoch_in_every_run(recorded, found):
    client, _, children, results = found
    for row in results:
        run_ = children[row["trial_id"]]
        history = {
            name: {m.step: m.value for m in client.get_metric_history(run_.info.run_id, name)}
            for name in run_.data.metrics
        }
        if row["kind"] == "baseline":
            assert {tuple(steps) for steps in history.values()} == {(0,)}
        else:
            for epoch in read_epochs(TrialPaths(recorded.root / "trials" / row["trial_id"]).metrics):
                assert {
                    name: steps[epoch.epoch]
                    for name, steps in history.items()
                    if epoch.epoch in steps and not name.startswith("system/")
                } == {**epoch.metrics, "device_seconds": epoch.seconds}
            assert list(history["system/cpu_utilization_percentage"]) == [1, 2, 3]
            assert all(0 < v <= 100 for v in history["system/system_memory_usage_percentage"].values())
        times = [m.timestamp for m in client.get_metric_history(run_.info.run_id, "distortion")]
        assert min(times) > 1.6e12 and "epoch" in run_.data.tags["mlflow.note.content"]
        assert float(row["distortion"]) == run_.data.metrics["distortion"]


def test_every_run_has_the_token_store_as_its_data_sets(recorded, found):
    _, parent, children, _ = found
    for run_ in (parent, *children.values()):
        inputs = {i.tags[0].value: i.dataset for i in run_.inputs.dataset_inputs}
        assert set(inputs) == {"train", "val", "test"} and {i.tags[0].key for i in run_.inputs.dataset_inputs} == {
            "mlflow.data.context"
        }
        assert {d.digest for d in inputs.values()} == {parent.data.tags["tokens.fingerprint"]}
        assert sum(json.loads(d.profile)["images"] for d in inputs.values()) == 36
        assert json.loads(inputs["val"].source)["uri"].endswith(inputs["val"].digest)


def models(client):
    experiment = client.get_experiment_by_name("tiny").experiment_id
    return experiment, client.search_logged_models([experiment])


def test_the_best_checkpoint_at_so_many_tokens_is_one_search_away(recorded, found):
    client, parent, _, results = found
    experiment, everything = models(client)
    kept = {
        row["trial_id"] for row in results if TrialPaths(recorded.root / "trials" / row["trial_id"]).latest.exists()
    }
    assert Counter(m.tags["trial.hash"] for m in everything) == Counter(kept)
    for tokens in ("4", "9"):
        best = min(
            (r for r in results if r["kind"] == "trial" and r["tokens"] == tokens), key=lambda r: float(r["distortion"])
        )
        first = client.search_logged_models(
            [experiment], f"params.tokens = '{tokens}'", order_by=[{"field_name": "metrics.distortion"}]
        )[0]
        assert first.params["checkpoint"] == str(TrialPaths(recorded.root / "trials" / best["trial_id"]).latest)
        assert {m.key: m.value for m in first.metrics}["distortion"] == float(best["distortion"])
        assert first.source_run_id == best["mlflow_run_id"] and first.status.value == "READY"
        assert first.params["loss.lambda_gp"] == best["loss.lambda_gp"]
        assert (
            f"--checkpoint {TrialPaths(recorded.root / 'trials' / best['trial_id']).folder}"
            in (parent.data.tags["mlflow.note.content"])
        )


def test_the_parent_holds_the_files_that_tell_of_the_sweep(recorded, found):
    client, parent, _, _ = found
    names = {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "results.csv", "sweep.yaml"} <= names
    for name in ("report.html", "results.csv"):
        path = client.download_artifacts(parent.info.run_id, name)
        assert open(path).read() == (recorded.root / name).read_text()


def test_a_second_start_changes_nothing_in_mlflow(recorded, found):
    client, _, children, _ = found

    def state():
        runs = mlflow_runs(recorded.uri)[1]
        return (
            {r.info.run_id: (r.data.tags, r.data.params, r.data.metrics, r.info.status) for r in runs},
            {m.model_id: (m.params, m.tags, len(m.metrics)) for m in models(client)[1]},
        )

    with recorded.lock:
        before = state()
        again = run(recorded.folder, recorded.file, "experiment.system_metrics=true")
        assert again.returncode == 0 and "everything is done already" in again.stdout, again.stderr
        assert state() == before
    one = next(iter(children.values())).info.run_id
    assert len(client.get_metric_history(one, "distortion")) == len(
        {m.step for m in client.get_metric_history(one, "distortion")}
    )


def record(folder, **changes):
    return TrialRecord(
        **{
            "trial_id": "a",
            "name": "k=2/0",
            "kind": "trial",
            "state": "complete",
            "cell": "k=2",
            "tokens": 4,
            "params": {"model.compressor.output_grid_size": 2},
            "values": {"distortion": 0.5},
            "device_seconds": 1.0,
            "folder": folder,
            "reason": None,
            "kept": True,
            "number": 0,
            "settings": {"model.compressor.output_grid_size": 2},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """MLflow takes seconds to lay out its tables; once is enough."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracker(tmp_path, empty_store):
    """A maker of trackers on one store, each as a process that starts anew has it; of sweeps of one name."""
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")

    def make(name=None, sweep_id="s-0123456789ab"):
        made = MlflowTracker(
            ExperimentSettings(
                name=name,
                tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
                checkpoint_dir="c",
                use_wandb=False,
                wandb_project="p",
                system_metrics=False,
            ),
            Provenance(
                "s",
                tmp_path,
                "run_sweep.py",
                None,
                None,
                tmp_path / "f00d",
                "tiny",
                (36, 32),
                {"train": 3, "val": 1, "test": 1},
                sweep_id=sweep_id,
            ),
        )
        made.open({"trials": 1, "settings.experiment.tracking_uri": "http://me:secret@host"})
        return made

    return make


def test_a_database_that_cannot_be_written_is_told_by_one_error_and_without_traces(tracker, tmp_path, capfd):
    made, before = tracker(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # stands for a full disk
    try:
        with pytest.raises(MlflowException, match="disk"):
            made.sync(record(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.fixture
def trained(tmp_path):
    paths = TrialPaths(tmp_path / "trial")
    paths.folder.mkdir()
    paths.latest.write_bytes(b"checkpoint")
    paths.config.write_text("tracking_uri: http://me:secret@host")
    paths.metrics.write_text(
        "".join(
            json.dumps({"epoch": n, "timestamp": 1_700_000_000_000 + n, "seconds": n, "metrics": {"distortion": 1 / n}})
            + "\n"
            for n in (1, 2)
        )
    )
    return paths


STAGES = (
    "create_run",
    "log_inputs",
    "log_batch",
    "create_logged_model",
    "finalize_logged_model",
    "log_metric",
    "set_terminated",
    "set_tag",
)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_call_leaves_nothing_twice_and_nothing_missing(tracker, trained, stage, after, monkeypatch):
    """Every call of that name is cut off once, before or after the store has done it."""
    real, cut, calls = getattr(MlflowClient, stage), set(), [0]

    class Killed(BaseException):
        pass

    def killed(self, *arguments, **named):
        calls[0] += 1
        if calls[0] in cut or len(cut) > 20:
            return real(self, *arguments, **named)
        cut.update(range(1, calls[0] + 1))
        if after:
            real(self, *arguments, **named)
        raise Killed

    monkeypatch.setattr(MlflowClient, stage, killed)
    for _ in range(30):
        calls[0] = 0
        try:
            made = tracker()
            made.sync(record(trained.folder))
            made.close("FINISHED", [record(trained.folder)], {})
            break
        except Killed:
            continue
    monkeypatch.undo()
    assert cut
    complete(made, trained)


@pytest.mark.parametrize("stage", STAGES)
def test_a_lost_answer_to_any_call_leaves_nothing_twice_and_nothing_missing(tracker, trained, stage, monkeypatch):
    """The store does what it is asked to, once without an answer; the same process offers the record again."""
    real, lost, made = getattr(MlflowClient, stage), [], tracker()

    def answered(self, *arguments, **named):
        found = real(self, *arguments, **named)
        if not lost:
            lost.append(stage)
            raise ConnectionError
        return found

    monkeypatch.setattr(MlflowClient, stage, answered)
    with pytest.raises(ConnectionError):
        made.sync(record(trained.folder))
    made.sync(record(trained.folder))
    made.close("FINISHED", [record(trained.folder)], {})
    complete(made, trained)


KILLED_WHILE_ITS_DATABASE_IS_MADE = """
import itertools, os, shutil, signal, sys, time
from pathlib import Path

import mlflow
from toconv.config import compose
from toconv.tracking.provenance import Provenance
from toconv.tracking.mlflow_runs import MlflowTracker

folder = Path(sys.argv[1])
settings = compose({"experiment.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}).experiment
origin = Provenance("s", folder, "run_sweep.py", None, None, folder / "f00d", "tiny", (36, 32), {"train": 3})
for number in itertools.count(1):
    child = os.fork()
    if not child:
        MlflowTracker(settings, origin).open({})
        os._exit(0)
    end = time.monotonic() + 0.3 * number
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            sys.exit()
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
    if (folder / "mlflow.db").exists():
        shutil.copyfile(folder / "mlflow.db", folder / f"{number}.db")
"""


def test_a_kill_while_mlflows_database_is_made_leaves_none_or_a_whole_one(tmp_path):
    """MLflow makes it in a hundred steps and takes none that was left half made; two seconds, in which the process is
    killed after 0.3 s, 0.6 s and so on, until it is done before."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_ITS_DATABASE_IS_MADE, str(tmp_path)],
        timeout=500,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0 and done.stdout.count("killed") > 1, done.stderr
    for database in [tmp_path / "mlflow.db", *tmp_path.glob("[0-9]*.db")]:
        assert MlflowClient(f"sqlite:///{database}").search_experiments()


def complete(made, trained):
    """The store holds the parent and the record once each, with everything that belongs to them."""
    client = MlflowClient(made.uri)
    experiment = client.get_experiment_by_name("s").experiment_id
    runs = client.search_runs([experiment])
    assert sorted(r.info.run_name for r in runs) == ["k=2", "s"] and {r.info.status for r in runs} == {"FINISHED"}
    child = next(r for r in runs if r.info.run_name == "k=2")
    assert child.data.params == {"model.compressor.output_grid_size": "2", "tokens": "4"}
    assert [(m.step, m.value) for m in client.get_metric_history(child.info.run_id, "distortion")] == [(1, 1), (2, 0.5)]
    assert all(len(r.inputs.dataset_inputs) == 3 for r in runs)
    (model,) = client.search_logged_models([experiment])
    assert model.status.value == "READY" and model.params["checkpoint"] == str(trained.latest)
    assert {m.key: m.value for m in model.metrics} == {"distortion": 0.5, "device_seconds": 2}


def test_a_checkpoint_that_is_dropped_takes_its_model_along(tracker, trained):
    made = tracker()
    made.sync(record(trained.folder))
    client, experiment = MlflowClient(made.uri), made._experiment
    (model,) = client.search_logged_models([experiment])
    trained.latest.unlink()
    for _ in range(2):
        tracker().sync(record(trained.folder, kept=False))
        assert client.search_logged_models([experiment]) == []
    run_id = tracker().run_ids()["a"]
    assert model.source_run_id == run_id and {a.path for a in client.list_artifacts(run_id)} == {"config.yaml"}


def test_a_trial_is_newer_than_the_baselines_however_late_those_are_delivered(tracker, trained):
    """MLflow's pages list the newest runs first, and of a parent's children only those."""
    made = tracker()
    time.sleep(0.01)
    row = {"epoch": 1, "timestamp": time.time_ns() // 1_000_000 + 500, "seconds": 0.5, "metrics": {"distortion": 1.0}}
    trained.metrics.write_text(json.dumps(row) + "\n")
    time.sleep(0.01)
    made.sync(record(trained.folder))
    made.sync(record(None, trial_id="b", name="pool", kind="baseline", number=None))
    newest_first = MlflowClient(made.uri).search_runs([made._experiment])
    assert newest_first[0].info.run_name == "k=2" and len(newest_first) == 3
    assert newest_first[0].info.start_time == row["timestamp"] - 500


def test_no_password_of_a_tracking_uri_reaches_mlflow(tracker, trained):
    made = tracker()
    made.sync(record(trained.folder, state="failed", values={}, reason="no route to http://me:secret@host/"))
    client = MlflowClient(made.uri)
    runs = client.search_runs([made._experiment])
    assert "secret" not in str([r.to_dictionary() for r in runs])
    assert "***" in open(client.download_artifacts(made.run_ids()["a"], "config.yaml")).read()


def test_an_experiment_that_was_deleted_by_hand_is_taken_up_again(tracker, trained):
    made = tracker()
    MlflowClient(made.uri).delete_experiment(made._experiment)
    again = tracker()
    again.sync(record(trained.folder))
    assert again._experiment == made._experiment


def test_an_experiment_that_another_process_makes_at_the_same_moment_is_shared(tracker, monkeypatch):
    create = MlflowClient.create_experiment

    def after_another(client, name, *given):
        create(client, name)
        return create(client, name, *given)

    monkeypatch.setattr(MlflowClient, "create_experiment", after_another)
    made = tracker("shared")
    assert [e.name for e in made._client.search_experiments() if e.experiment_id == made._experiment] == ["shared"]


def test_a_name_given_for_the_experiment_is_kept(tracker):
    made = tracker(name="mine")
    assert {e.name for e in MlflowClient(made.uri).search_experiments()} == {"mine", "Default"}


def test_the_default_store_is_what_mlflow_ui_opens_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ExperimentSettings(
        name=None, tracking_uri=None, checkpoint_dir="c", use_wandb=False, wandb_project="p", system_metrics=False
    )
    origin = Provenance("s", REPOSITORY, "", None, None, REPOSITORY, "", (1, 1), {})
    assert MlflowTracker(settings, origin).uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_what_the_user_measured_comes_once_and_anew_where_it_was_measured_anew(tracker, trained):
    """It ends after the last epoch, whose other numbers are there by then."""
    made = tracker()
    made.sync(record(trained.folder, state="running", values={}))
    client, experiment = MlflowClient(made.uri), made._experiment
    for accuracy in (0.25, 0.25, 0.75):
        values = {"distortion": 0.5, "accuracy": accuracy}
        if accuracy == 0.75:
            trained.evaluation.touch()  # kept anew
        tracker().sync(record(trained.folder, values=values, own=("accuracy",)))
    (run,) = (r for r in client.search_runs([experiment]) if "trial.hash" in r.data.tags)
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "accuracy")] == [(2, 0.25), (2, 0.75)]
    assert run.data.metrics["accuracy"] == 0.75
    (model,) = client.search_logged_models([experiment])
    assert [m.value for m in model.metrics if m.key == "accuracy"][-1] == 0.75
    tracker().sync(record(trained.folder, not_evaluated="ended with exit code 1"))
    assert client.get_run(run.info.run_id).data.tags["not_evaluated"] == "ended with exit code 1"


def test_what_holds_no_more_of_a_trial_that_was_run_again_goes_from_its_tags(tracker, trained):
    client, reason = MlflowClient(tracker().uri), "diverged at http://me:secret@host"
    left = {"state": "failed", "reason": reason, "steered": "retried by bob", "not_evaluated": "ended with code 1"}

    def told(**outcome):
        made = tracker()
        made.sync(record(trained.folder, **outcome))
        tags = client.get_run(made.run_ids()["a"]).data.tags
        return {key: tags[key] for key in left if key in tags}

    assert told(**left) == {**left, "reason": "diverged at http://***@host"}
    assert told(**{**left, "reason": "out of memory"}) == {**left, "reason": "out of memory"}
    assert told(steered="retried by bob") == {"state": "complete", "steered": "retried by bob"}
    assert told() == {"state": "complete"}


def test_a_trial_that_is_run_again_is_running_there_until_it_ends(tracker, trained):
    """Told by the start in which it failed, and by a later one."""
    failed = {"state": "failed", "reason": "diverged"}
    made, client = tracker(), MlflowClient(tracker().uri)
    for later in (False, True):
        made.sync(record(trained.folder, **failed))
        again = tracker() if later else made
        again.sync(record(trained.folder, state="running", values={}))
        again.sync(record(trained.folder, state="running", values={}))
        (run,) = (r for r in client.search_runs([made._experiment]) if "trial.hash" in r.data.tags)
        assert run.info.status == "RUNNING"
        assert run.data.tags["state"] == "running" and "reason" not in run.data.tags
        made = tracker()
        made.sync(record(trained.folder, **failed))  # as it did before
        run = client.get_run(run.info.run_id)
        assert run.info.status == "FAILED" and run.data.tags["reason"] == "diverged"


def test_sweeps_of_one_name_have_a_parent_each_and_do_not_touch_each_others_runs_and_models(tracker, trained):
    mine, its = tracker(), tracker(sweep_id="s-ba9876543210")
    mine.sync(record(trained.folder))
    its.sync(record(trained.folder, state="failed", values={}, reason="skipped by bob"))
    client = MlflowClient(mine.uri)
    (own,), (other,) = mine.run_ids().values(), its.run_ids().values()
    assert [client.get_run(run_id).info.status for run_id in (own, other)] == ["FINISHED", "FAILED"]
    assert len(client.get_metric_history(own, "distortion")) == 2
    (model,) = client.search_logged_models([mine._experiment])
    assert model.source_run_id == own and model.tags["toconv.sweep_id"] == "s-0123456789ab"
    assert tracker().run_ids() == mine.run_ids() and len(client.search_runs([mine._experiment])) == 4


def test_a_sweep_that_an_earlier_version_began_goes_on_with_the_parent_of_its_name_that_has_no_id(tracker, trained):
    first = tracker()
    earlier = tracker(sweep_id=None)
    earlier.sync(record(trained.folder))
    last, again = tracker(sweep_id="s-ba9876543210"), tracker(sweep_id=None)
    assert again._parent == earlier._parent not in {first._parent, last._parent}
    assert again.run_ids() == earlier.run_ids() and not last.run_ids()


def test_a_person_tells_parents_of_one_name_by_the_folder_where_the_sweep_lies_now(tracker, tmp_path):
    made = tracker()
    client, here = MlflowClient(made.uri), f"{socket.gethostname()}:{tmp_path}"
    parent = client.get_run(made._parent)
    assert here in parent.data.tags["mlflow.note.content"] and parent.data.tags["toconv.folder"] == here
    client.set_tag(made._parent, "toconv.folder", "there:/before/it/was/moved")
    assert tracker()._parent == made._parent
    assert client.get_run(made._parent).data.tags["toconv.folder"] == here
