"""A whole sweep as a user runs it: real Ray, Optuna and MLflow, in processes of their own."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import optuna
import pytest
import yaml

import toconv
from tests.forked import Forked
from tests.repository import REPOSITORY
from tests.running import (
    SIZES,
    TRIALS,
    epochs_of,
    mlflow_runs,
    optuna_trials,
    rows,
    run,
    toconv_command,
    trial_rows,
    write_sweep,
)
from tests.small_encoders import small_encoder
from toconv.paths import SweepPaths

pytestmark = pytest.mark.slow

BASELINES = (
    "random",
    "strided",
    "pool",
    "pool_bilinear",
    "pool_rescaled",
    "pca",
    "linear",
    "dct",
    "tome",
    "divprune",
    "visionzip",
    "smaller_picture",
    "mixing_0.25",
    "mixing_0.5",
    "mixing_0.75",
)


@pytest.fixture(scope="module")
def finished(overrides):
    folder, settings = overrides
    path = write_sweep(folder, settings)
    return folder, path, run(folder, path)


def test_it_ends_with_exit_code_0_and_says_where_to_look(finished):
    folder, _, done = finished
    assert done.returncode == 0, done.stderr
    assert "counts as 0; trials run on the CPU" in done.stdout
    assert "mlflow ui" in done.stdout and "average pooling" in done.stdout


def test_results_hold_a_row_for_each_trial_and_each_baseline(finished):
    folder, _, _ = finished
    found = rows(folder)
    trials = [r for r in found if r["kind"] == "trial"]
    assert Counter(r["tokens"] for r in trials) == {str(k * k): TRIALS for k in SIZES}
    assert {(r["name"], r["tokens"]) for r in found if r["kind"] == "baseline"} == {
        (name, str(k * k)) for name in BASELINES for k in SIZES
    }
    assert all(float(r["distortion"]) > 0 and r["mlflow_run_id"] and r["device_seconds"] for r in found)
    assert list(found[0])[:6] == ["trial_id", "name", "kind", "state", "cell", "tokens"]


def test_optuna_mlflow_and_the_results_agree(finished):
    folder, _, _ = finished
    expected = {r["trial_id"]: r for r in rows(folder) if r["kind"] == "trial"}
    storage = f"sqlite:///{folder}/outputs/tiny/study.db"
    studies = optuna.get_all_study_summaries(storage)
    assert {s.study_name for s in studies} == {f"tiny/k={k}" for k in SIZES}
    trials = [t for s in studies for t in optuna.load_study(study_name=s.study_name, storage=storage).trials]
    assert Counter(t.user_attrs["trial_id"] for t in trials) == Counter(list(expected))
    client, runs = mlflow_runs(f"sqlite:///{folder}/mlflow.db")
    children = {r.data.tags["trial.hash"]: r for r in runs if r.data.tags.get("kind") == "trial"}
    assert len(runs) == 1 + len(rows(folder)) and set(children) == set(expected)
    for trial in trials:
        row, child = expected[trial.user_attrs["trial_id"]], children[trial.user_attrs["trial_id"]]
        assert trial.state.name == "COMPLETE" and child.info.status == "FINISHED"
        assert child.info.run_id == row["mlflow_run_id"]
        for name, value in zip(("distortion", "perception"), trial.values, strict=True):
            assert float(row[name]) == value == child.data.metrics[name]
        for name, value in trial.params.items():
            assert float(row[name]) == value == float(child.data.params[name])
        assert [m.step for m in client.get_metric_history(child.info.run_id, "distortion")] == [1, 2, 3]
        kept = {path.name for path in (folder / "outputs" / "tiny" / "trials" / row["trial_id"]).glob("*.pt")}
        assert {a.path for a in client.list_artifacts(child.info.run_id)} == {
            "config.yaml",
            *(kept & {"best_model.pt", "latest.pt"}),
        }


def test_trials_are_nested_below_one_finished_parent(finished):
    folder, _, _ = finished
    _, runs = mlflow_runs(f"sqlite:///{folder}/mlflow.db")
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert parent.info.run_name == "tiny" and parent.info.status == "FINISHED"
    assert {r.data.tags["mlflow.parentRunId"] for r in runs if r is not parent} == {parent.info.run_id}


def test_a_second_start_finds_everything_done(finished):
    folder, path, _ = finished
    before = (rows(folder), {p: p.stat().st_mtime_ns for p in folder.rglob("*.fp16")})
    again = run(folder, path)
    assert again.returncode == 0 and "everything is done already" in again.stdout
    assert "none encoded now" in again.stdout
    assert (rows(folder), {p: p.stat().st_mtime_ns for p in folder.rglob("*.fp16")}) == before
    assert len(mlflow_runs(f"sqlite:///{folder}/mlflow.db")[1]) == 1 + len(before[0])


def test_the_report_and_the_recommended_compressors_can_be_written_anew(finished):
    folder, _, _ = finished
    paths = SweepPaths(folder / "outputs" / "tiny")
    before = paths.report.read_text()
    paths.report.unlink()
    shutil.rmtree(paths.recommended)
    done = toconv_command(folder, "report", "tiny")
    assert done.returncode == 0 and str(paths.report) in done.stdout, done.stderr
    assert paths.report.read_text().count("<section") == before.count("<section")
    assert {path.name for path in paths.recommended.iterdir()} == {f"k{k}" for k in SIZES}
    assert "holds no sweep; there are tiny" in toconv_command(folder, "report", "nothing").stderr


def test_another_definition_under_the_same_name_is_refused(finished):
    folder, path, _ = finished
    done = run(folder, path, "training.epochs=4")
    assert done.returncode == 2 and "training.epochs: was 3, now 4" in done.stderr


def test_raising_trials_extends_the_sweep(finished):
    folder, path, _ = finished
    before = {r["trial_id"] for r in rows(folder)}
    done = run(folder, path, f"trials={TRIALS + 1}")
    assert done.returncode == 0, done.stderr
    after = [r for r in rows(folder) if r["kind"] == "trial"]
    assert Counter(r["tokens"] for r in after) == {str(k * k): TRIALS + 1 for k in SIZES}
    assert len({r["trial_id"] for r in after} - before) == len(SIZES)


def test_it_goes_on_with_a_changed_file_and_trains_for_more_epochs_what_was_asked_for_meanwhile(finished):
    folder, path, _ = finished
    before = {r["trial_id"]: r for r in trial_rows(folder)}
    asked = toconv_command(folder, "extend", "tiny", "--epochs", "4", "--trials", "best:1")
    assert asked.returncode == 0 and "its next start does it" in asked.stdout, asked.stderr
    trials = TRIALS + 2
    done = run(folder, path, f"trials={trials}", "training.n_critic=2", "grid.model.compressor.output_grid_size=[2]")
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert "what has changed since the last start" in told and "3: nothing more is drawn" in told
    assert "trials so far lie in the space as it is now" in told and "extended/0" in told
    after = {r["trial_id"]: r for r in trial_rows(folder)}
    assert all(after[known]["distortion"] == row["distortion"] for known, row in before.items())
    new = [row for known, row in after.items() if known not in before]
    assert {(row["tokens"], row["training.n_critic"]) for row in new} == {("4", "2")}
    longer = [r for r in rows(folder) if r["kind"] == "extended"]
    assert [r["tokens"] for r in longer] == ["4", "9"] and all(r["state"] == "complete" for r in longer)
    for row in longer:
        of = row["extension"].split("the end of ")[1].split(",")[0]
        trial_folder = folder / "outputs" / "tiny" / "trials" / row["trial_id"]
        assert epochs_of(trial_folder) == [1, 2, 3, 4] and of in before
        assert (
            (trial_folder / "metrics.jsonl")
            .read_text()
            .startswith((folder / "outputs" / "tiny" / "trials" / of / "metrics.jsonl").read_text())
        )
    _, runs = mlflow_runs(f"sqlite:///{folder}/mlflow.db")
    assert {r.data.tags["extension"] for r in runs if "extension" in r.data.tags} == {r["extension"] for r in longer}
    report = (folder / "outputs" / "tiny" / "report.html").read_text()
    assert "Trained for more epochs" in report and "training.n_critic: 1 to 3, now 2" in report


def test_another_sweep_takes_over_what_is_finished_and_trains_nothing(finished):
    folder, path, _ = finished
    done = run(folder, path, "name=other")
    assert done.returncode == 0, done.stderr
    assert f"{len(SIZES) * TRIALS} of them had been finished already" in done.stdout
    theirs, ours = (
        {r["trial_id"]: (r["distortion"], r["device_seconds"]) for r in trial_rows(folder, name)}
        for name in ("tiny", "other")
    )
    for trial_id in set(theirs) & set(ours):
        assert theirs[trial_id] == ours[trial_id]
    assert len(ours) == len(SIZES) * TRIALS <= len(theirs)
    assert {t.state.name for t in optuna_trials(folder, "other")} == {"COMPLETE"}


def test_the_front_is_run_again_with_fresh_seeds_on_the_test_pictures(finalists):
    folder, path, done = finalists.folder, finalists.file, finalists.done
    assert done.returncode == 0, done.stderr
    found = rows(folder)
    trials, again = (([r for r in found if r["kind"] == kind]) for kind in ("trial", "finalist"))
    front = [
        a
        for a in trials
        if not any(
            (x := [float(b[m]) for m in ("tokens", "distortion", "perception")])
            != (y := [float(a[m]) for m in ("tokens", "distortion", "perception")])
            and all(u <= v for u, v in zip(x, y, strict=True))
            for b in trials
        )
    ]
    folders = folder / "outputs" / "tiny" / "trials"
    configs = {
        r["trial_id"]: yaml.safe_load((folders / r["trial_id"] / "config.yaml").read_text()) for r in trials + again
    }
    asked = {
        (c["model"]["compressor"]["output_grid_size"], c["loss"]["lambda_gp"], c["training"]["n_critic"], seed)
        for c in (configs[r["trial_id"]] for r in front)
        for seed in (1, 2)
    }
    assert {
        (
            c["model"]["compressor"]["output_grid_size"],
            c["loss"]["lambda_gp"],
            c["training"]["n_critic"],
            c["training"]["seed"],
        )
        for c in (configs[r["trial_id"]] for r in again)
    } == asked
    assert len(again) == len(asked) and all(float(r["test_distortion"]) > 0 for r in again)
    assert not any(r["test_distortion"] for r in trials)  # no trial of the search saw the test pictures
    assert "the front on the test pictures" in done.stdout and "±" in done.stdout
    assert len(mlflow_runs(f"sqlite:///{folder}/mlflow.db")[1]) == 1 + len(found)
    assert len(optuna_trials(folder)) == len(trials) + len(again)
    with finalists.lock:
        second = run(folder, path)
    assert second.returncode == 0 and "everything is done already" in second.stdout and rows(folder) == found


def test_checkpoints_stay_for_the_front_alone_in_folders_and_in_mlflow(finalists):
    folder = finalists.folder
    found = [r for r in rows(folder) if r["kind"] != "baseline"]
    client, runs = mlflow_runs(f"sqlite:///{folder}/mlflow.db")
    children = {r.data.tags.get("trial.hash"): r for r in runs}
    kept = set()
    for row in found:
        there = {p.name for p in (folder / "outputs" / "tiny" / "trials" / row["trial_id"]).glob("*.pt")}
        artifacts = {a.path for a in client.list_artifacts(children[row["trial_id"]].info.run_id)}
        assert ("latest.pt" in artifacts) == bool(there)
        kept |= {row["trial_id"]} if there else set()
    trials = [r for r in found if r["kind"] == "trial"]
    best = {
        min((r for r in trials if r["tokens"] == str(k * k)), key=lambda r: float(r[m]))["trial_id"]
        for k in SIZES
        for m in ("distortion", "perception")
    }
    assert best <= kept <= {r["trial_id"] for r in trials}


def on_two_logical_gpus(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}  # for workers: the script lies elsewhere
    script = REPOSITORY / "tests" / "commands" / "two_logical_gpus.py"
    return Forked(folder, script, arguments, environment).completed(300)


@pytest.fixture(scope="module")
def on_gpus(overrides, tmp_path_factory):
    """A sweep on two logical GPUs whose budget ended it three times, at last with its trials done."""
    folder = tmp_path_factory.mktemp("gpus")
    settings = {**overrides[1], "hardware.device": "cpu", "training.epochs": 60}
    settings["experiment.tracking_uri"] = f"sqlite:///{folder / 'mlflow.db'}"
    path = write_sweep(folder, settings, resources={"cpu": 1})
    trials = folder / "outputs" / "tiny" / "trials"
    starts = []
    for hours in ("1e-6", "1e-6", "1"):
        done = on_two_logical_gpus(folder, path, f"budget.gpu_hours={hours}")
        assert done.returncode == 0, done.stderr
        report = (folder / "outputs" / "tiny" / "report.html").exists()
        starts.append((done, trial_rows(folder), {trial.name: epochs_of(trial) for trial in trials.iterdir()}, report))
    return folder, starts


def test_spent_gpu_hours_end_trials_at_a_checkpoint_and_more_of_them_goes_on(on_gpus):
    """The first epoch that ends finds the budget spent, however fast the machine is."""
    (first, found, begun, report), (_, _, again, _), (_, last, epochs, _) = on_gpus[1]
    assert "stopped by the budget (budget.gpu_hours=1e-06" in first.stdout and "to go on" not in first.stderr
    assert {r["state"] for r in found} == {"running"} and report
    assert begun and all(0 < len(done) < 60 for done in begun.values()) and again == begun
    assert {r["state"] for r in last} == {"complete"} and len(last) == 4
    assert all(done == list(range(1, 61)) for done in epochs.values())


def test_two_logical_gpus_run_two_trials_side_by_side_each_seeing_one(on_gpus):
    folder, starts = on_gpus
    assert "2 trial(s) at a time, each with 1 CPU and 1 GPU" in starts[-1][0].stdout
    spans = []
    for trial in (folder / "outputs" / "tiny" / "trials").iterdir():
        gpu = json.loads((trial / "worker.json").read_text())["CUDA_VISIBLE_DEVICES"]
        stamps = [json.loads(line)["timestamp"] for line in (trial / "metrics.jsonl").read_text().splitlines()]
        spans.append((gpu, min(stamps), max(stamps)))
    assert {gpu for gpu, _, _ in spans} == {"0", "1"}
    assert any(a[0] != b[0] and a[1] < b[2] and b[1] < a[2] for a in spans for b in spans)


def test_spent_hours_begin_no_trial_and_what_is_complete_is_recommended(overrides, tmp_path):
    """First before any trial, then with a trial in each cell, at last with one that still runs."""
    path = write_sweep(tmp_path, {**overrides[1], "training.epochs": 2}, trials=1)
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    done = run(tmp_path, path, "budget.hours=1e-6")
    assert done.returncode == 0, done.stderr
    assert "stopped by the budget (budget.hours=1e-06" in done.stdout and not trial_rows(tmp_path)
    assert run(tmp_path, path, "budget.hours=1").returncode == 0
    assert {r["state"] for r in trial_rows(tmp_path)} == {"complete"} and len(trial_rows(tmp_path)) == 2
    done = run(tmp_path, path, "trials=3", "budget.hours=0.0001")
    assert done.returncode == 0 and "stopped by the budget" in done.stdout
    complete = {int(r["tokens"]) for r in trial_rows(tmp_path) if r["state"] == "complete"}
    assert complete == {4, 9} == {toconv.load(p).k ** 2 for p in paths.recommended.iterdir()}


def test_a_dry_run_plans_and_leaves_nothing(overrides, tmp_path):
    _, settings = overrides
    done = run(tmp_path, write_sweep(tmp_path, settings), "--dry-run")
    assert done.returncode == 0, done.stderr
    for part in ("4 trials in 2 cell(s)", "disk:", "time:", "(8, 36, 32) -> (8, 4, 32)"):
        assert part in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"tiny.yaml"}


def test_debug_runs_one_trial_in_this_process_without_the_ledger(overrides, tmp_path):
    _, settings = overrides
    path = write_sweep(tmp_path, settings)
    done = run(tmp_path, path, "--debug", "trial.loss.lambda_gp=3", "trial.training.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "lambda_gp" not in done.stdout.split("its folder")[0]  # fixed, hence no longer searched
    assert "epoch 1/1" in done.stdout
    (config,) = (tmp_path / "outputs" / "tiny" / "debug").glob("*/config.yaml")
    assert yaml.safe_load(config.read_text())["loss"]["lambda_gp"] == 3
    assert not list(tmp_path.rglob("study.db"))


def test_a_failed_trial_is_told_with_its_reason_and_the_rest_goes_on(overrides, tmp_path):
    _, settings = overrides
    path = write_sweep(
        tmp_path,
        settings,
        trials=1,
        search={"training.learning_rate": {"choices": [1.0]}, "loss.ae_weight": {"choices": [1e30, 1e38]}},
    )
    done = run(tmp_path, path, "loss.wgan_weight=0", "training.weight_decay=1e30")
    assert done.returncode == 3, done.stdout + done.stderr
    failed = [r for r in rows(tmp_path) if r["state"] == "failed"]
    assert failed and "--debug trial." in done.stdout and "must be finite" in done.stdout


def test_early_stopping_prunes_within_a_cell(overrides, tmp_path):
    _, settings = overrides
    path = write_sweep(tmp_path, settings, trials=6, early_stopping={"after_epochs": 1, "keep": 0.34})
    done = run(tmp_path, path, "model.compressor.output_grid_size=3", "training.epochs=4")
    assert done.returncode == 0, done.stderr
    states = Counter(r["state"] for r in rows(tmp_path) if r["kind"] == "trial")
    assert states["pruned"] >= 1 and states["complete"] >= 1 and sum(states.values()) == 6
    storage = f"sqlite:///{tmp_path}/outputs/tiny/study.db"
    trials = optuna.load_study(study_name=None, storage=storage).trials
    assert Counter(t.state.name for t in trials) == {k.upper(): v for k, v in states.items()}
    assert all(t.user_attrs["epoch"] < 4 for t in trials if t.state.name == "PRUNED")


def test_k_may_be_a_choice_of_optunas_with_the_tokens_as_an_objective(overrides, tmp_path):
    _, settings = overrides
    path = write_sweep(
        tmp_path,
        settings,
        grid={},
        trials=4,
        search={"model.compressor.output_grid_size": {"choices": SIZES}, "loss.lambda_gp": {"low": 1, "high": 9}},
        objectives={"distortion": "minimize", "perception": "minimize", "tokens": "minimize"},
    )
    done = run(tmp_path, path)
    assert done.returncode == 0, done.stderr
    storage = f"sqlite:///{tmp_path}/outputs/tiny/study.db"
    trials = optuna.load_study(study_name=None, storage=storage).trials
    assert len(trials) == 4
    assert all(t.values[2] == t.params["model.compressor.output_grid_size"] ** 2 for t in trials)


def test_a_second_driver_is_refused_while_the_first_lives(overrides, tmp_path):
    from filelock import FileLock

    _, settings = overrides
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    with FileLock(paths.lock):
        done = run(tmp_path, write_sweep(tmp_path, settings))
    assert done.returncode == 2 and "another process runs this sweep" in done.stderr
    assert Path(paths.root).exists()


def test_a_sweep_on_an_encoder_by_name_without_a_class_token_reports_and_resumes(photographs, tmp_path):
    """test_vit3 of timm: 10×10 tokens, a register beside them, pooled by attention."""
    chosen = {**small_encoder(tmp_path, "test_vit3"), "data": "folder", "data.root": str(photographs), "data.crops": 1}
    small = {f"model.{part}.width": 8 for part in ("compressor", "decoder", "critic")}
    chosen |= {**small, "training.epochs": 1, "training.batch_size": 8, "hardware.threads": 1}
    chosen["experiment.tracking_uri"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    file = write_sweep(tmp_path, chosen, trials=1, grid={"model.compressor.output_grid_size": [3]})
    done = run(tmp_path, file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "encoder test_vit3 (timm, " in done.stdout and "160 px, 10x10 tokens of width 96" in done.stdout
    root = tmp_path / "outputs" / "tiny"
    assert all(0 < abs(float(row["embedding_agreement"])) <= 1 for row in rows(tmp_path))
    assert "test_vit3" in (root / "report.html").read_text()
    (written,) = (yaml.safe_load(path.read_text()) for path in root.glob("trials/*/config.yaml"))
    assert (written["encoder"]["image_size"], written["encoder"]["width"]) == (160, 96)
    again = run(tmp_path, file)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(trial_rows(tmp_path)) == 1
