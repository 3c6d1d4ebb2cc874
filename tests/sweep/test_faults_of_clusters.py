"""A sweep on a cluster of machines with a GPU each, logical ones, that share a folder, with its ledger and MLflow's
records in PostgreSQL, an object store, and copies of tokens of bounded size. Machines are lost while they encode and
while they train, one is taken back, the database is restarted and the cluster's head is lost: it ends as on one machine
where nothing happens."""

import hashlib
import sys

import pytest

from tests import postgresql
from tests.forked import Forked
from tests.machines import machines
from tests.repository import REPOSITORY
from tests.running import assert_as_undisturbed, serving
from tests.sweep.faults import Disturbed, ended, halted, trains_on, undisturbed, wait_for
from toconv.tokens.archive import CACHE

pytestmark = pytest.mark.slow
SHARDS, TRIALS = 12, 3  # a shard of each picture; trials of each k
COPIES_GB = 0.0031  # the pictures to train on and those to validate on, not those of the test beside them
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


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder of the machines' copies of tokens."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "token-copies"


def misplaced(s3, sweep, tokens):
    """Keys of shards and of trials' last checkpoints that are either here or in the bucket."""
    expected = {
        f"tokens/{path.parent.name}/{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in tokens.glob("*/*.fp16")
    }
    kept = {f"trials/{path.parent.name}/latest.pt" for path in sweep.trials.glob("*/latest.pt")}
    there = {key.removeprefix("some/prefix/") for key in s3.modified()}
    return (expected - there) | (kept ^ {key for key in there if key.endswith("/latest.pt")})


@pytest.mark.timeout(1200)
def test_a_sweep_whose_machines_come_and_go_ends_as_the_one_to_which_nothing_happens(
    alone, long_settings, tmp_path, databases, tracking, s3, copies
):
    (tmp_path / "shared").mkdir()
    tokens = tmp_path / "shared" / "tokens"
    store = {"store.url": s3.url, "store.local_cache_gb": COPIES_GB}
    sweep = Disturbed(
        tmp_path / "shared",
        {**long_settings, **SETTINGS, "data.tokens_dir": str(tokens), **store},
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
        wait_for(lambda: "ray::_encode_share" in second.works().values(), process)
        second.lose()
        assert len([*tokens.glob("*/*.entry")]) < SHARDS

        third = cluster.join()
        lost = wait_for(lambda: trains_on(third, sweep), process)
        third.lose()
        databases.restart()

        fourth = cluster.join()
        left = wait_for(lambda: trains_on(fourth, sweep), process)
        assert left["node"] != lost["node"]
        with halted(sweep.trials / left["trial"]):  # the command takes seconds
            cluster.drain(left["node"])
        wait_for(lambda: (there := trains_on(cluster.head, sweep)) and there["trial"] == left["trial"], process)
        cluster.head.lose()
        code, stdout, stderr = ended(process)
        assert code == 4 and "to go on: python" in stderr.splitlines()[-1], stdout + stderr
        told = " ".join(stdout.split())
        assert "encoding on 2 GPUs" in told and f"node {left['node'][:8]} is drained" in told, told
        assert "read where they lie: it takes" in told, "no room for the pictures of the test: " + told
    (tmp_path / "anew").mkdir()
    with machines(tmp_path / "anew", gpus=1) as cluster:
        cluster.join()
        code, stdout, stderr = ended(begin(cluster))
    assert code == 0, stdout + stderr
    rows, tokens_alone = alone
    assert_as_undisturbed(sweep.folder, rows, tracking)
    assert shards_in(tokens) == shards_in(tokens_alone) and len(shards_in(tokens)) == 2 * SHARDS
    assert not misplaced(s3, sweep, tokens)
    copied = [path.read_bytes() for path in copies.rglob("*.fp16")]
    assert copied and set(copied) <= {path.read_bytes() for path in tokens.rglob("*.fp16")}
    assert sum(map(len, copied)) <= COPIES_GB * 1e9
