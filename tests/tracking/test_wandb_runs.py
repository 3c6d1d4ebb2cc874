"""W&B in its offline mode: what `wandb sync` would send is read from its files."""

import json
import struct

import pytest
import wandb

from tests.records import record
from tests.running import rows, toconv_command
from toconv import config
from toconv.analysis.records import State
from toconv.errors import RequestError
from toconv.paths import SweepPaths, TrialPaths
from toconv.rules import _installed
from toconv.sweep.recorded import read_request
from toconv.tracking.provenance import Provenance
from toconv.tracking.wandb_runs import WandbTracker
from toconv.training.epochs import read_epochs

pytestmark = pytest.mark.slow

HEADER, BLOCK = 7, 32768  # bytes; a file is LevelDB's log of protobufs


def messages(path):
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, message = path.read_bytes(), HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # what is left of a block and holds no header
            position += BLOCK - position % BLOCK
            continue
        _, length, part = struct.unpack_from("<IHB", data, position)
        position += HEADER
        message += data[position : position + length]
        position += length
        if part in {1, 4}:  # whole, or the last part
            yield Record.FromString(message)
            message = b""


def read(path):
    """(the run's record, its config, {step: metrics})"""
    run, history = None, {}
    for message in messages(path):
        if message.HasField("run"):
            run = message.run
        if message.HasField("history"):
            values = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in message.history.item}
            history[message.history.step.num] = {k: v for k, v in values.items() if not k.startswith("_")}
    return run, {(u.key or ".".join(u.nested_key)): json.loads(u.value_json) for u in run.config.update}, history


@pytest.fixture(scope="module")
def runs(recorded):
    found = [read(path) for path in (recorded.root / "wandb").glob("offline-run-*/*.wandb")]
    within = f"{read_request(SweepPaths(recorded.root))['id']}-"
    return {run.run_id.removeprefix(within): (run, settings, history) for run, settings, history in found}


def test_each_row_of_the_results_is_one_run_of_the_sweeps_group(recorded, runs):
    found = rows(recorded.folder)
    assert sorted(runs) == sorted(row["trial_id"] for row in found)
    assert len(list((recorded.root / "wandb").glob("offline-run-*"))) == len(found)
    sweep = read_request(SweepPaths(recorded.root))["id"]  # others may have its name
    assert {(run.run_group, run.project) for run, _, _ in runs.values()} == {(sweep, "photographs")}
    for row in found:
        run, settings, _ = runs[row["trial_id"]]
        assert run.job_type == row["kind"] and settings["name"] == row["name"]
        if row["kind"] == "trial":
            k, lambda_gp, n = (
                row[key] for key in ("model.compressor.output_grid_size", "loss.lambda_gp", "training.n_critic")
            )
            assert run.display_name == f"k={k} λ={float(lambda_gp):.3g} n={n}"
            assert settings["loss.lambda_gp"] == float(lambda_gp) and settings["training.n_critic"] == int(n)
            assert settings["model.compressor.width"] == 8 and settings["tokens"] == int(row["tokens"])


def test_metrics_by_epoch_are_those_of_the_trial_and_the_last_those_of_the_results(recorded, runs):
    for row in rows(recorded.folder):
        _, _, history = runs[row["trial_id"]]
        if row["kind"] == "baseline":
            assert list(history) == [0]
        else:
            epochs = read_epochs(TrialPaths(recorded.root / "trials" / row["trial_id"]).metrics)
            assert list(history) == [e.epoch for e in epochs]
            for epoch in epochs:
                shown = {k: v for k, v in history[epoch.epoch].items() if not k.startswith("system/")}
                assert shown == {**epoch.metrics, "device_seconds": epoch.seconds}
        last = history[max(history)]
        assert [last[m] for m in ("distortion", "embedding_agreement", "perception")] == [
            float(row[m]) for m in ("distortion", "embedding_agreement", "perception")
        ]


def test_its_files_lie_in_the_sweeps_folder_alone(recorded):
    assert not (recorded.folder / "wandb").exists() and (recorded.root / "wandb").is_dir()


def test_a_record_is_told_once_however_often_the_sweep_is_started(recorded):
    with recorded.lock:
        before = sorted((recorded.root / "wandb").iterdir())
        done = toconv_command(recorded.folder, "sync", "tiny", WANDB_MODE="offline")
        assert done.returncode == 0, done.stderr
        assert sorted((recorded.root / "wandb").iterdir()) == before


def test_a_trial_that_is_run_again_after_it_failed_is_told_again_and_one_that_is_complete_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    origin = Provenance("tiny", tmp_path, "run_sweep.py", None, None, tmp_path / "f00d", "tiny", (36, 32), {"train": 3})
    settings = config.compose({"experiment.use_wandb": True, "experiment.wandb_project": "photographs"}).experiment
    told = []
    for state in (State.FAILED, State.FAILED, State.COMPLETE, State.COMPLETE):
        WandbTracker(settings, origin).sync(record("0123456789ab", 16, 0.5, state=state, settings={}, folder=None))
        told.append([read(path)[0] for path in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))])
    wandb.teardown()  # it keeps its mode for the process
    assert [len(runs) for runs in told] == [1, 1, 2, 2]
    assert {run.run_id for run in told[-1]} == {"tiny-0123456789ab"}
    assert sorted(state for run in told[-1] for state in run.tags if state in {*State}) == ["complete", "failed"]


def test_where_it_is_not_installed_the_request_is_refused(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in {"wandb", "psutil"} else real(name))
    with pytest.raises(RequestError) as refused:
        config.compose({"experiment.use_wandb": True, "experiment.system_metrics": True, "training.epochs": 0})
    assert "experiment.use_wandb=true: needs the package wandb: pip install wandb" in str(refused.value)
    assert "experiment.system_metrics=true: needs the package psutil" in str(refused.value)
    assert "training.epochs=0" in str(refused.value)


def test_a_folder_is_not_taken_for_a_package(tmp_path, monkeypatch):
    """W&B leaves one called wandb in the current directory of other programs."""
    (tmp_path / "no_package").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not _installed("no_package") and _installed("pydantic")


def test_without_a_key_the_request_is_refused_before_any_work(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="wandb login, or set WANDB_MODE=offline"):
        WandbTracker.check_access()
