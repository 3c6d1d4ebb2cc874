"""A sweep on a cluster of machines with a GPU each, logical ones, that share a folder, with its ledger and MLflow's
records in PostgreSQL. Machines are lost while they encode and while they train, one is taken back, the database is
restarted and the cluster's head is lost: it ends as on one machine where nothing happens."""

import json
import sys

import pytest

from tests import postgresql
from tests.forked import Forked
from tests.machines import machines
from tests.repository import REPOSITORY
from tests.running import assert_as_undisturbed, serving
from tests.sweep.faults import Disturbed, ended, undisturbed, wait_for

pytestmark = pytest.mark.slow
SHARDS, TRIALS = 12, 3  # a shard of each picture; trials of each k
SETTINGS = {"data.crops": 128, "encoder.batch_size": 4, "training.epochs": 12, "training.batch_size": 32}


@pytest.fixture
def alone(long_settings, tmp_path_factory):
    """The rows and the tokens of the same sweep on one machine where nothing happens."""
    folder = tmp_path_factory.mktemp("alone")
    settings = {**long_settings, **SETTINGS, "data.tokens_dir": str(folder / "tokens")}
    return undisturbed(folder, settings, trials=TRIALS), folder / "tokens"


@pytest.fixture
def databases(monkeypatch):
    with postgresql.server() as found:
        monkeypatch.setenv("PGPASSWORD", postgresql.PASSWORD)
        yield found


@pytest.fixture
def tracking(tmp_path, databases):
    """The address of an MLflow server on PostgreSQL."""
    places = ["--backend-store-uri", databases.create("records"), "--artifacts-destination", f"{tmp_path}/artifacts"]
    with serving(tmp_path, "/health", sys.executable, "-m", "mlflow", "server", "--workers", "1", *places) as address:
        yield address


def shards_in(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*/*.fp16")}


def trains_on(machine, sweep):
    """What is known of the worker of a trial on that machine that has saved and not ended."""
    for path in sweep.trials.glob("*/worker.json"):
        saved = any(path.parent.glob("checkpoint_epoch_*.pt")) and not (path.parent / "finished").exists()
        if saved and (worker := json.loads(path.read_text()))["pid"] in machine.works():
            return {**worker, "trial": path.parent.name}
    return None


def test_a_sweep_whose_machines_come_and_go_ends_as_the_one_to_which_nothing_happens(
    alone, long_settings, tmp_path, databases, tracking
):
    (tmp_path / "shared").mkdir()
    tokens = tmp_path / "shared" / "tokens"
    sweep = Disturbed(
        tmp_path / "shared",
        {**long_settings, **SETTINGS, "data.tokens_dir": str(tokens)},
        uri=tracking,
        trials=TRIALS,
        resources={"cpu": 1, "gpu": 1},
        storage={"study": databases.create("studies")},
    )

    def begin(cluster):
        return Forked(sweep.folder, REPOSITORY / "run_sweep.py", [sweep.file], cluster.environment)

    with machines(tmp_path, gpus=1) as cluster:
        second = cluster.join()
        process = begin(cluster)
        wait_for(lambda: len([*tokens.glob("*/*.entry")]) > 2, process)
        assert "ray::_encode_share" in second.works().values()
        second.lose()
        assert len([*tokens.glob("*/*.entry")]) < SHARDS

        third = cluster.join()
        lost = wait_for(lambda: trains_on(third, sweep), process)
        third.lose()
        databases.restart()

        fourth = cluster.join()
        left = wait_for(lambda: trains_on(fourth, sweep), process)
        assert left["node"] != lost["node"]
        cluster.drain(left["node"])
        wait_for(lambda: (there := trains_on(cluster.head, sweep)) and there["trial"] == left["trial"], process)
        cluster.head.lose()
        code, stdout, stderr = ended(process)
        assert code == 4 and "to go on: python" in stderr.splitlines()[-1], stdout + stderr
        told = " ".join(stdout.split())
        assert "encoding on 2 GPUs" in told and f"node {left['node'][:8]} is drained" in told, told
    (tmp_path / "anew").mkdir()
    with machines(tmp_path / "anew", gpus=1) as cluster:
        cluster.join()
        code, stdout, stderr = ended(begin(cluster))
    assert code == 0, stdout + stderr
    rows, tokens_alone = alone
    assert_as_undisturbed(sweep.folder, rows, tracking)
    assert shards_in(tokens) == shards_in(tokens_alone) and len(shards_in(tokens)) == 2 * SHARDS
