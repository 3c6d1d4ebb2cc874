"""Tokens encoded by tasks on a Ray cluster with two logical GPUs, and with one device."""

import re
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from tests.forked import PROCESSES, Forked
from tests.machines import machines
from tests.repository import REPOSITORY
from tests.running import run, write_sweep
from tests.sweep.faults import Disturbed, ended, wait_for
from toconv import config
from toconv.sweep.file import load_sweep
from toconv.tokens import shards
from toconv.tokens.encoding import prepare_store
from toconv.tokens.smaller_picture import encode_smaller
from toconv.tokens.store import TokenStore

pytestmark = pytest.mark.slow


def encoded_on_two_gpus(settings, printed, sweep):
    """In a process of its own, since Ray starts once in each. Smaller pictures by other processes alone."""
    import contextlib

    import ray

    from toconv.progress import console
    from toconv.sweep.encoding_tasks import encoding_tasks, smaller_tasks
    from toconv.tokens import smaller_picture

    def not_here(*of):
        raise AssertionError("encoded by the driver")

    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    shards.SHARD_CROPS = 3
    with printed.open("w") as file, contextlib.redirect_stdout(file):
        console.file = file
        store = TokenStore(prepare_store(settings, lambda claims, missing: encoding_tasks(settings, claims, missing)))
        smaller_picture._Device.encode = not_here
        asked = replace(load_sweep(sweep, []), base=settings)
        smaller_picture.encode_smaller(
            settings, store, [2, 3], partial(smaller_tasks, asked, store.folder, lambda: None)
        )
        one = settings.model_copy(update={"hardware": settings.hardware.model_copy(update={"device": "cpu"})})
        assert encoding_tasks(one, None, [None, None]) == [], "a machine without GPUs is one device"
        assert encoding_tasks(settings, None, [None]) == [], "one shard is one device's"
    ray.shutdown()


def test_every_gpu_of_a_cluster_encodes_and_the_store_is_the_one_that_a_single_device_makes(
    tiny, tmp_path, monkeypatch
):
    settings, file = config.compose({**tiny, "hardware.device": "auto"}), write_sweep(tmp_path, tiny)
    process = PROCESSES.Process(target=encoded_on_two_gpus, args=(settings, tmp_path / "printed", file))
    process.start()
    process.join(240)
    assert process.exitcode == 0
    told = " ".join((tmp_path / "printed").read_text().split())
    monkeypatch.setattr(shards, "SHARD_CROPS", 3)
    alone = config.compose({**tiny, "hardware.device": "auto", "data.tokens_dir": str(tmp_path / "alone")})
    ours, theirs = (TokenStore(prepare_store(of)) for of in (settings, alone))
    count = sum(map(ours.count, ("train", "val", "test")))
    assert "encoding on 2 GPUs, each a shard of at most" in told
    assert f"{count} encoded now" in told and "by others" not in told, "tasks of its own are no others"
    encode_smaller(alone, theirs, [2, 3])
    files = [path.relative_to(theirs.folder) for path in theirs.folder.rglob("*.fp16")]
    assert sum("smaller" in str(name) for name in files) == 2 * sum("smaller" not in str(name) for name in files)
    for name in files:
        assert (ours.folder / name).read_bytes() == (theirs.folder / name).read_bytes()


def test_a_cluster_whose_head_is_lost_while_it_encodes_ends_the_sweep_and_the_same_command_goes_on(
    long_settings, tmp_path
):
    tokens, many = tmp_path / "tokens", {"data.crops": 128, "encoder.batch_size": 4, "training.batch_size": 32}
    settings = {**long_settings, **many, "data.tokens_dir": str(tokens), "training.epochs": 1}
    sweep = Disturbed(tmp_path, settings, trials=1, baselines=False, resources={"cpu": 1, "gpu": 1})
    with machines(tmp_path, gpus=1) as cluster:
        cluster.join()
        process = Forked(sweep.folder, REPOSITORY / "run_sweep.py", [sweep.file], cluster.environment)
        wait_for(lambda: len([*tokens.glob("*/*.entry")]) > 2, process)
        cluster.head.lose()
        lost, (code, stdout, stderr) = time.monotonic(), ended(process)
        assert code == 4 and time.monotonic() - lost < 50, stdout + stderr  # after 60 s Ray would end the process
    assert "Ray's" in stderr and "to go on: python" in stderr.splitlines()[-1], stderr
    there = {path: path.stat().st_mtime_ns for path in tokens.glob("*/*.entry")}
    done = run(tmp_path, sweep.file, "resources.gpu=0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        len([*tokens.glob("*/*.entry")]) == 12
        and there.items() <= {path: path.stat().st_mtime_ns for path in tokens.glob("*/*.entry")}.items()
    )


def encoded_while_a_node_goes(settings, printed):
    """Two nodes with a logical GPU each; one is killed once some shards are there."""
    import contextlib

    import ray
    from ray.cluster_utils import Cluster

    from toconv.progress import console
    from toconv.sweep.encoding_tasks import encoding_tasks

    asked = {"num_cpus": 1, "num_gpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args={**asked, "include_dashboard": False})
    other = cluster.add_node(**asked)
    ray.init(cluster.address, include_dashboard=False, log_to_driver=False)

    disturbing = []

    def begin(claims, missing):
        def disturb():
            while len(there := [*claims.folder.glob("*.entry")]) < 3:
                time.sleep(0.01)
            cluster.remove_node(other, allow_graceful=False)
            print(f"LOST with {len(there)} of {len(missing)}")

        disturbing.append(threading.Thread(target=disturb, daemon=True))
        disturbing[0].start()
        return encoding_tasks(settings, claims, missing)

    with printed.open("w") as file, contextlib.redirect_stdout(file):
        console.file = file
        prepare_store(settings, begin)
        disturbing[0].join()  # the other node may have encoded the rest before this one's processes have gone
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_is_killed_while_it_encodes_costs_its_unfinished_shard(tiny, tmp_path):
    many = {**tiny, "hardware.device": "auto", "data.crops": 128, "encoder.batch_size": 4}  # a shard of each picture
    process = PROCESSES.Process(target=encoded_while_a_node_goes, args=(config.compose(many), tmp_path / "printed"))
    process.start()
    process.join(180)
    assert process.exitcode == 0
    told = " ".join((tmp_path / "printed").read_text().split())
    assert "encoding on 2 GPUs" in told and re.search(r"LOST with ([3-9]|1[01]) of 12", told), told
    assert "encoded now" in told and "by others" not in told, "what the lost node finished is of the sweep's own tasks"
    alone = config.compose({**many, "data.tokens_dir": str(tmp_path / "alone")})
    ours, theirs = (TokenStore(prepare_store(of)) for of in (config.compose(many), alone))
    assert {p.name for p in ours.folder.glob("*.entry")} == {p.name for p in theirs.folder.glob("*.entry")}
    for path in theirs.folder.glob("*.fp16"):
        assert (ours.folder / path.name).read_bytes() == path.read_bytes()
