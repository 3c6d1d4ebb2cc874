"""Tokens encoded by tasks on a Ray cluster with two logical GPUs, and with one device."""

import pytest

from tests.forked import PROCESSES
from toconv import config
from toconv.tokens import shards
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore

pytestmark = pytest.mark.slow


def encoded_on_two_gpus(settings, printed):
    """In a process of its own, since Ray starts once in each."""
    import contextlib

    import ray

    from toconv.progress import console
    from toconv.sweep.encoding_tasks import encoding_tasks

    ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    shards.SHARD_CROPS = 3
    with printed.open("w") as file, contextlib.redirect_stdout(file):
        console.file = file
        prepare_store(settings, lambda claims, missing: encoding_tasks(settings, claims, missing))
        one = settings.model_copy(update={"hardware": settings.hardware.model_copy(update={"device": "cpu"})})
        assert encoding_tasks(one, None, [None, None]) == [], "a machine without GPUs is one device"
        assert encoding_tasks(settings, None, [None]) == [], "one shard is one device's"
    ray.shutdown()


def test_every_gpu_of_a_cluster_encodes_and_the_store_is_the_one_that_a_single_device_makes(
    tiny, tmp_path, monkeypatch
):
    settings = config.compose({**tiny, "hardware.device": "auto"})
    process = PROCESSES.Process(target=encoded_on_two_gpus, args=(settings, tmp_path / "printed"))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    told = " ".join((tmp_path / "printed").read_text().split())
    monkeypatch.setattr(shards, "SHARD_CROPS", 3)
    alone = config.compose({**tiny, "hardware.device": "auto", "data.tokens_dir": str(tmp_path / "alone")})
    ours, theirs = (TokenStore(prepare_store(of)) for of in (settings, alone))
    count = sum(map(ours.count, ("train", "val", "test")))
    assert "encoding on 2 GPUs, each a shard of at most" in told and f"{count} of them by others" in told
    for path in theirs.folder.glob("*.fp16"):
        assert (ours.folder / path.name).read_bytes() == path.read_bytes()
