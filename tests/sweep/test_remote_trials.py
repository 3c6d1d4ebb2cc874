"""A trial whose checkpoints are in an object store, on machines that see no folder of each other."""

import json
import os
import time
from dataclasses import asdict

import pytest
import torch

from tests.object_stores import refusing
from tests.running import until
from toconv import checkpoint, config
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths, write_atomic
from toconv.sweep.remote_trials import (
    LeaveAsked,
    ask_to_leave,
    collect_trial,
    drop_trial,
    fetch_trial,
    send_file,
    send_trial,
)
from toconv.sweep.trainable import RunningTrial, TrialInputs, step
from toconv.sweep.tune.trial import RayTrial
from toconv.tokens.encoding import prepare_store


def outcomes(trial):
    found = []
    while not found or not found[-1].get("complete"):
        found.append(step(trial))
    trial.close()
    return [{**o["row"], "timestamp": 0, "seconds": 0} for o in found]


def metrics(rows):
    return [{k: v for k, v in row.items() if k not in ("timestamp", "seconds", "device_seconds")} for row in rows]


@pytest.mark.slow
def test_a_trial_goes_on_on_a_machine_with_an_empty_disk_to_the_same_numbers(tiny, tmp_path, s3):
    settings = config.compose({**tiny, "store.url": s3.url})
    tokens = prepare_store(settings)

    def on(machine, url=s3.url):
        asked = config.compose({**tiny, "store.url": url}).model_dump(mode="json")
        store = tokens if machine == "first" else tmp_path / machine / tokens.name
        return RunningTrial(TrialInputs(asked, str(store), str(tmp_path / machine / "trials" / "0123456789ab"), 1))

    undisturbed = outcomes(on("first", url=None))
    (tmp_path / "first" / "trials").rename(tmp_path / "undisturbed")
    begun = on("first")
    assert step(begun)["row"]["epoch"] == 1
    begun.close()
    second = on("second")
    rest = outcomes(second)
    assert [row["epoch"] for row in rest] == [2, 3]
    assert metrics(rest) == metrics(undisturbed[1:])
    third = on("third")
    assert [row["epoch"] for row in outcomes(third)] == [3], "nothing is trained again"
    assert third.paths.best.exists() and third.paths.metrics.read_text().count("\n") == 3
    states = [checkpoint.load(paths.latest) for paths in (second.paths, third.paths)]
    assert all(torch.equal(states[0]["compressor"][name], x) for name, x in states[1]["compressor"].items())


def lay(paths, epochs, **more):
    """A trial's folder after so many epochs."""
    content = {"config.yaml": b"of the trial", "latest.pt": b"after %d" % epochs, "metrics.jsonl": b"{}\n" * epochs}
    for name, bytes_ in {**content, **more}.items():
        write_atomic(paths.folder / name, bytes_)


@pytest.fixture
def at(tmp_path):
    return lambda machine: TrialPaths(tmp_path / machine / "0123456789ab")


def test_a_folder_goes_on_from_whichever_is_further(at, s3):
    remote, there, here = ObjectStore(s3.url), at("there"), at("here")
    lay(there, 3)
    send_trial(remote, there)
    for epochs in (3, 5):
        lay(here, epochs)
        fetch_trial(remote, here)
        assert here.latest.read_bytes() == b"after %d" % epochs, "it is as far"
    lay(here, 2)
    fetch_trial(remote, here)
    assert here.latest.read_bytes() == b"after 3" and here.metrics.read_bytes() == b"{}\n" * 3
    lay(here, 5)
    here.latest.unlink()
    fetch_trial(remote, here)
    assert here.latest.read_bytes() == b"after 3" and not here.best.exists(), "without a checkpoint nothing goes on"


def test_a_driver_has_what_it_was_told_of_and_asks_for_nothing_that_is_here(at, s3):
    remote, there, here = ObjectStore(s3.url), at("there"), at("here")
    lay(there, 2)
    for name in ("best_model.pt", "checkpoint_epoch_2.pt"):
        os.link(there.latest, there.folder / name)
    lay(there, 2, **{"checkpoint_epoch_1.pt": b"after 1", "machine.jsonl": b"{}", "foreign.txt": b"no file of a trial"})
    os.replace(there.latest, there.folder / "as it is")
    os.link(there.best, there.latest)
    send_trial(remote, there)
    collect_trial(remote, here, 2, failed=False)
    sent = {"config.yaml", "latest.pt", "metrics.jsonl", "best_model.pt", "checkpoint_epoch_2.pt", "machine.jsonl"}
    assert {path.name for path in here.folder.iterdir()} == sent, "the checkpoint of an epoch before was sent then"
    s3.remove_bucket()
    collect_trial(remote, here, 2, failed=False)


def test_what_a_training_supersedes_goes_there_too_and_nothing_else_does(at, s3):
    remote, there, elsewhere = ObjectStore(s3.url), at("there"), at("elsewhere")

    def trained(paths, epochs, keeps):
        """As after so many epochs, with these of its epochs' checkpoints."""
        lay(paths, epochs)
        paths.latest.unlink()
        write_atomic(paths.epoch(epochs), b"after %d" % epochs)
        os.link(paths.epoch(epochs), paths.latest)
        for n, path in paths.by_epoch().items():
            if n not in keeps:
                path.unlink()
        send_trial(remote, paths)

    def objects():
        return {key.split("/")[-1] for key in s3.modified()} - {"config.yaml", "latest.pt", "metrics.jsonl"}

    trained(there, 2, {2})
    for foreign in ("checkpoint_epoch_x.pt", "notes.txt"):
        s3.put(f"some/prefix/trials/{there.folder.name}/{foreign}", b"somebody's")
    write_atomic(there.interrupted, b"within epoch 3")
    send_file(remote, there, there.interrupted)
    foreign = {"checkpoint_epoch_x.pt", "notes.txt"}
    assert objects() == {"checkpoint_epoch_2.pt", "interrupted.pt", *foreign}
    there.interrupted.unlink()
    trained(there, 4, {2, 4})
    assert objects() == {"checkpoint_epoch_2.pt", "checkpoint_epoch_4.pt", *foreign}
    trained(there, 6, {4, 6})
    assert objects() == {"checkpoint_epoch_4.pt", "checkpoint_epoch_6.pt", *foreign}
    trained(elsewhere, 5, {5})
    assert objects() == {"checkpoint_epoch_5.pt", "checkpoint_epoch_6.pt", *foreign}, "it has yet to reach the sixth"


def test_of_a_trial_whose_checkpoints_go_nothing_stays_there_but_what_another_sweep_trains(at, s3):
    remote, here, other = ObjectStore(s3.url), at("here"), at("other")
    lay(here, 2)
    send_trial(remote, here)
    s3.put("some/prefix/trials/another/latest.pt", b"beside it")
    drop_trial(remote, here)
    drop_trial(remote, here)
    assert {*s3.modified()} == {"some/prefix/trials/another/latest.pt"}
    lay(other, 1)
    send_trial(remote, other)
    there = {*s3.modified()}
    drop_trial(remote, here)
    assert {*s3.modified()} == there
    write_atomic(here.error, b"of a trial that failed before its first epoch")
    remote.remove_folder("trials")
    here.metrics.unlink()
    send_file(remote, here, here.error)
    drop_trial(remote, here)
    assert not s3.modified()


def test_a_driver_has_the_trace_of_a_trial_that_failed_elsewhere(at, s3):
    remote, there, here = ObjectStore(s3.url), at("there"), at("here")
    write_atomic(there.error, b"Traceback")
    send_file(remote, there, there.error)
    collect_trial(remote, here, 0, failed=False)
    assert not here.error.exists()
    collect_trial(remote, here, 0, failed=True)
    assert here.error.read_bytes() == b"Traceback"


def test_a_worker_whose_login_is_refused_is_no_verdict_on_its_trial(tiny, tmp_path, s3, monkeypatch):
    asked = config.compose({**tiny, "store.url": s3.url}).model_dump(mode="json")
    inputs = TrialInputs(asked, str(tmp_path / "tokens"), str(tmp_path / "trial"), 1)
    with refusing("ExpiredToken", 400) as (address, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        result = RayTrial({"inputs": asdict(inputs)}).step()
    outcome = json.loads(result["outcome"])
    assert {*outcome} == {"machinery", "machine"} and "its login is refused" in outcome["machinery"] and result["done"]


def test_a_training_that_left_within_an_epoch_goes_on_elsewhere_also_within_its_first(at, s3):
    remote, there, here = ObjectStore(s3.url), at("there"), at("here")
    write_atomic(there.interrupted, b"within epoch 1")
    send_file(remote, there, there.interrupted)
    fetch_trial(remote, here)
    assert here.checkpoints() == [here.interrupted] and here.interrupted.read_bytes() == b"within epoch 1"
    for paths in (there, here):
        lay(paths, 2)
        paths.interrupted.unlink()
    send_trial(remote, there)
    write_atomic(there.interrupted, b"within epoch 3")
    send_file(remote, there, there.interrupted)
    fetch_trial(remote, here)
    assert here.interrupted.read_bytes() == b"within epoch 3"


def test_a_training_elsewhere_is_asked_to_leave_by_way_of_the_store(at, s3, monkeypatch):
    monkeypatch.setattr("toconv.sweep.remote_trials.LOOK_SECONDS", 0.05)
    remote, paths = ObjectStore(s3.url), at("here")
    ask_to_leave(remote, paths)
    asked = LeaveAsked(remote, paths)
    time.sleep(0.3)
    assert not asked(), "that was meant for an earlier worker"
    ask_to_leave(remote, paths)
    until(asked)
    asked.close()


@pytest.mark.slow
def test_a_trial_that_is_asked_to_leave_elsewhere_goes_on_here_to_the_same_numbers(tiny, tmp_path, s3, monkeypatch):
    """The machines see no folder of each other; the driver asks while the second epoch runs."""
    monkeypatch.setattr("toconv.sweep.remote_trials.LOOK_SECONDS", 0.01)
    settings = config.compose({**tiny, "store.url": s3.url, "training.n_critic": 40})
    tokens, remote = prepare_store(settings), ObjectStore(s3.url)

    def on(machine):
        folder = tmp_path / machine / "trials" / "0123456789ab"
        store = tokens if machine != "other" else tmp_path / machine / tokens.name
        return RunningTrial(TrialInputs(settings.model_dump(mode="json"), str(store), str(folder), 1))

    alone = outcomes(on("alone"))
    for key in [key for key in s3.modified() if "/trials/" in key]:
        s3.client.delete_object(Bucket=s3.bucket, Key=key)
    other = on("other")
    assert step(other)["row"]["epoch"] == 1
    ask_to_leave(remote, other.paths)
    until(other._is_to_leave)
    assert step(other) == {"left": True}
    other.close()
    (tmp_path / "other").rename(tmp_path / "gone")
    rest = outcomes(on("here"))
    assert [row["epoch"] for row in rest] == [2, 3] and metrics(rest) == metrics(alone[1:])
