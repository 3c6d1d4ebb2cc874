"""A sweep on two machines that see no folder of each other: tokens and trials go by way of an object store."""

import pytest

from tests.forked import Forked
from tests.machines import machines, needs_mounts
from tests.repository import REPOSITORY
from tests.running import assert_as_undisturbed, trial_rows
from tests.sweep.faults import Disturbed, undisturbed, wait_for

pytestmark = [pytest.mark.slow, needs_mounts]

EVALUATION = """
import json, pathlib, sys
export, output = map(pathlib.Path, sys.argv[1:])
assert [*export.iterdir()]
output.write_text(json.dumps({"accuracy": 0.25}))
"""


EPOCHS, TRIALS = 12, 3


@pytest.fixture
def apart(long_settings, tmp_path, s3):
    """A sweep with an object store; the folders that one machine does not see."""
    settings = {
        **long_settings,
        "data.tokens_dir": str(tmp_path / "tokens"),
        "store.url": s3.url,
        "training.epochs": EPOCHS,
    }
    hidden = [tmp_path / "outputs", tmp_path / "tokens"]
    for folder in hidden:
        folder.mkdir()
    (tmp_path / "my_eval.py").write_text(EVALUATION)
    own = {"command": "python my_eval.py {export} {output}", "metric": "accuracy", "on": "trials"}
    return Disturbed(tmp_path, settings, trials=TRIALS, evaluation=own), hidden


@pytest.fixture
def together(long_settings, tmp_path_factory):
    """The rows of that sweep on one machine with one disk, where nothing is lost."""
    settings = {**long_settings, "training.epochs": EPOCHS}
    return undisturbed(tmp_path_factory.mktemp("together"), settings, trials=TRIALS)


def ended_elsewhere(disturbed):
    """Trials that ended on the other machine: their files are here, and not which process had them."""
    return [path.parent for path in disturbed.trials.glob("*/finished") if not (path.parent / "worker.json").exists()]


def begun_elsewhere(disturbed, s3):
    """Trials with an epoch in the object store and no folder here."""
    there = {key.split("/")[-2] for key in s3.modified() if key.endswith("metrics.jsonl")}
    return there - {path.name for path in disturbed.trials.glob("*")}


def test_machines_without_a_shared_disk_encode_and_train_and_the_driver_has_all_of_one_that_is_lost(
    apart, together, tmp_path, s3
):
    disturbed, hidden = apart
    with machines(tmp_path) as cluster:
        second = cluster.join(hidden)
        process = Forked(tmp_path, REPOSITORY / "run_sweep.py", [disturbed.file], cluster.environment)
        wait_for(lambda: ended_elsewhere(disturbed), process)
        wait_for(lambda: begun_elsewhere(disturbed, s3), process)
        second.lose()
        done = process.completed(400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        " ".join(done.stdout.split()).count(": without this machine's folders; tokens and trials go by way of s3:") == 1
    )
    assert_as_undisturbed(tmp_path, together, disturbed.uri)
    for trial in disturbed.trials.iterdir():
        assert {path.name for path in trial.iterdir()} >= {"config.yaml", "metrics.jsonl", "finished"}
    assert "all of them on this machine" in " ".join(done.stdout.split())
    assert {row["accuracy"] for row in trial_rows(tmp_path)} == {"0.25"}, "also of those that ended elsewhere"
    assert not [key for key in s3.modified() if key.startswith("some/prefix/claims/")]
