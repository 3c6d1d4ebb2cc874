"""A trial whose checkpoints are in an object store, on machines that see no folder of each other."""

import json
from dataclasses import asdict

import pytest
import torch

from tests.object_stores import refusing
from toconv import checkpoint, config
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths
from toconv.sweep.remote_trials import fetch_trial, send_trial
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


def test_a_folder_that_has_checkpoints_is_left_as_it_is(tmp_path, s3):
    remote = ObjectStore(s3.url)
    there, here = (TrialPaths(tmp_path / name / "trial") for name in ("there", "here"))
    for paths, content in ((there, b"theirs"), (here, b"ours")):
        paths.folder.mkdir(parents=True)
        for path in (paths.latest, paths.config, paths.metrics):
            path.write_bytes(content)
    send_trial(remote, there)
    fetch_trial(remote, here)
    assert here.latest.read_bytes() == b"ours"
    here.latest.unlink()
    fetch_trial(remote, here)
    assert here.latest.read_bytes() == b"theirs" and not here.best.exists()


def test_a_worker_whose_login_is_refused_is_no_verdict_on_its_trial(tiny, tmp_path, s3, monkeypatch):
    asked = config.compose({**tiny, "store.url": s3.url}).model_dump(mode="json")
    inputs = TrialInputs(asked, str(tmp_path / "tokens"), str(tmp_path / "trial"), 1)
    with refusing("ExpiredToken", 400) as (address, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        result = RayTrial({"inputs": asdict(inputs)}).step()
    outcome = json.loads(result["outcome"])
    assert [*outcome] == ["machinery"] and "its login is refused" in outcome["machinery"] and result["done"]
