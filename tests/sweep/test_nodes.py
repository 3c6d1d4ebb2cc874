"""The machines of a cluster that is joined: two nodes of Ray's own command, of which one has another disk."""

import os
import platform
import subprocess
import sys

import pytest

from tests.forked import Forked
from tests.machines import machines, needs_mounts
from tests.repository import REPOSITORY
from tests.running import run, trial_rows, write_sweep
from tests.sweep.faults import Disturbed, ended, halted, trains_on, wait_for
from toconv.paths import packed
from toconv.settings import StoreSettings
from toconv.sweep.nodes import Machine, look, mistakes
from toconv.sweep.versions import versions

JOIN = """
import sys
from pathlib import Path
from toconv.errors import MachineryError
from toconv.sweep.cluster import Cluster, devices, on_each_node
from toconv.config import compose
cluster = Cluster()
cluster.machines()
from toconv.sweep.nodes import check_nodes
import ray

def package():
    import toconv.paths
    return str(toconv.paths.PACKAGE), toconv.paths.CONF.is_dir()

from toconv.sweep.file import load_sweep
shared, hidden = map(Path, sys.argv[1:3])
asked = load_sweep(Path(sys.argv[3]), [])
for place, has_conf in on_each_node(package, []).values():
    print("package", "py_modules_files" in place, has_conf)
print("devices", devices(compose({}).hardware))
check_nodes(asked, [shared])
print("shared by all", [*shared.iterdir()])
stored = load_sweep(Path(sys.argv[3]), ["store.url=file:///proc/objects"])
for sweep, folders in ((asked, [shared, hidden]), (stored, [shared])):
    try:
        check_nodes(sweep, folders)
    except MachineryError as error:
        print("refused:", error)
cluster.stop()
"""


def test_what_differs_between_machines_is_named_with_both_values(tmp_path):
    here = versions()
    (tmp_path / "probe").touch()
    assert look([tmp_path / "probe"]) == Machine(here, [])
    other = {**here, "torch": "2.0.0"}
    (told,) = mistakes("b (1234)", Machine(other, []), here)
    assert told == f"b (1234) has torch 2.0.0, this machine {here['torch']}: all must have the same"
    (told,) = mistakes("b (1234)", Machine(here, ["/data/tokens"]), here)
    assert told.startswith("b (1234) does not see /data/tokens: ")
    assert not [*mistakes("b", Machine(here, []), here)]


def test_with_an_object_store_a_machine_need_not_see_folders_but_must_reach_that(tmp_path):
    here, store = versions(), (tmp_path / "objects").as_uri()
    nowhere = "file:///proc/objects"
    (tmp_path / "probe").touch()
    seeing = look([tmp_path / "probe"], nowhere)
    assert not seeing.unseen and f"store.url={nowhere}: " in seeing.without_store, "its trials' files go there too"
    assert not [*mistakes("b", Machine(here, ["/data/tokens"]), here, store)]
    for unseen, said in (([], ""), (["/data/tokens"], " does not see /data/tokens, and")):
        (told,) = mistakes("b", Machine(here, unseen, (), f"store.url={nowhere}: no"), here, nowhere)
        assert told == (
            f"b{said} cannot use the object store: store.url={nowhere}: no; it is reached from there with the "
            "environment of that machine's `ray start`"
        )


def test_a_machine_that_has_not_the_encoders_files_is_named(tmp_path):
    (tmp_path / "weights.pt").touch()
    files = [tmp_path / "weights.pt", tmp_path / "model.json"]
    found = look([], None, files)
    assert found.lacking == (str(files[1]),)
    for store in (None, "s3://bucket/x"):
        (told,) = mistakes("b", found, versions(), store)
        assert told.startswith(f"b does not see {files[1]}: files of encoder= must lie under the same path")


def test_a_machine_that_cannot_write_the_copies_of_tokens_is_named_where_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TOCONV_CACHE", "/proc/nope")
    assert look([], copies=StoreSettings()) == Machine(versions(), [])
    (told,) = mistakes("b (1234)", look([], copies=StoreSettings(local_cache_gb=2)), versions())
    assert told.startswith("b (1234): store.local_cache_gb=2: /proc/nope/token-copies cannot be written (")
    monkeypatch.setenv("TOCONV_CACHE", str(tmp_path))
    assert look([], copies=StoreSettings(local_cache_gb=2)) == Machine(versions(), [])


def test_a_machine_says_of_the_object_store_why_it_cannot_use_it(tmp_path, monkeypatch):
    monkeypatch.setattr("toconv.sweep.nodes.APART_SECONDS", 0.1)
    store = (tmp_path / "objects").as_uri()
    assert look([tmp_path / "probe"], store) == Machine(versions(), [str(tmp_path)])
    found = look([tmp_path / "probe"], "file:///proc/objects")
    assert found.unseen == [str(tmp_path)] and "store.url=file:///proc/objects: " in found.without_store


def test_a_packed_package_is_laid_out_as_an_installed_one(tmp_path):
    with packed() as package:
        code = "from toconv import config, paths; print(paths.PACKAGE, config.compose({}).encoder.name)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(package.parent)},
            text=True,
            capture_output=True,
            check=True,
        )
        assert done.stdout.split() == [str(package.resolve()), "vit_s_14_336"]
    assert not package.exists()


@pytest.mark.slow
@needs_mounts
def test_a_cluster_of_two_gets_the_package_and_what_a_machine_does_not_see_or_reach_is_refused(tiny, tmp_path):
    shared, hidden = tmp_path / "shared", tmp_path / "hidden"
    for folder in (shared, hidden):
        folder.mkdir()
    with machines(tmp_path) as cluster:
        cluster.join([hidden])
        done = subprocess.run(
            [sys.executable, "-c", JOIN, str(shared), str(hidden), str(write_sweep(tmp_path, tiny))],
            env={**cluster.environment, "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
        )
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert told[:4] == ["package True True"] * 2 + ["devices [0.0, 0.0]", "shared by all []"]
    assert (
        told[4].startswith("refused: ") and told[4].count("does not see") == 1 and f"does not see {hidden}: " in told[4]
    )
    assert told[5].count(") cannot use the object store: store.url=file:///proc/objects: ") == 2


@pytest.mark.slow
@needs_mounts
def test_a_machine_that_joins_a_sweep_that_began_alone_is_used_and_one_that_lacks_its_folders_costs_no_trial(
    long_settings, tmp_path
):
    settings = {**long_settings, "data.tokens_dir": str(tmp_path / "tokens")}
    sweep = Disturbed(tmp_path, settings, trials=6, baselines=False)
    with machines(tmp_path) as cluster:
        process = Forked(tmp_path, REPOSITORY / "run_sweep.py", [sweep.file], cluster.environment)
        with halted(sweep.trial_after(process, 0)):  # the first machine would have trained all by then
            second = cluster.join()
            wait_for(lambda: trains_on(second, sweep), process)
            second.lose()
            third = cluster.join([tmp_path / "outputs", tmp_path / "tokens"])
            wait_for(lambda: [name for name in third.works().values() if "RayTrial" in name], process)
        code, stdout, stderr = ended(process)
    assert code == 4 and f"error: {platform.node()}: " in stderr and str(tmp_path / "tokens") in stderr, stdout + stderr
    assert "to go on: python" in stderr.splitlines()[-1]
    done = run(tmp_path, sweep.file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["state"] for row in trial_rows(tmp_path)] == ["complete"] * 12


GOES = """
import threading, time
import ray
from ray.cluster_utils import Cluster
asked = {"num_cpus": 1}
nodes = Cluster(initialize_head=True, head_node_args={**asked, "include_dashboard": False})
other = nodes.add_node(**asked)
ray.init(nodes.address, include_dashboard=False, log_to_driver=False)
from toconv.sweep.cluster import node_id, on_each_node

def late():
    import time
    from toconv.sweep.cluster import node_id
    time.sleep(0 if node_id() == HERE else 600)
    return node_id()

late.__globals__["HERE"] = node_id()
threading.Timer(5, lambda: nodes.remove_node(other, allow_graceful=False)).start()
found = on_each_node(late, [])
print("ANSWERS", [*found.values()] == [node_id()], flush=True)
ray.shutdown()
nodes.shutdown()
"""


@pytest.mark.slow
def test_a_machine_that_is_lost_while_it_is_asked_is_left_out(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    given = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 110}
    done = subprocess.run([sys.executable, "-c", GOES], **given)
    assert "ANSWERS True" in done.stdout, done.stdout + done.stderr
