"""Encoding on every device of a cluster: a Ray task each, which encodes what no other has claimed."""

import os
from collections.abc import Sequence

from toconv.hardware import limit_threads
from toconv.progress import say
from toconv.settings import Settings
from toconv.sweep.cluster import Task, devices
from toconv.tokens.encode_shards import encode_share
from toconv.tokens.manifest import SHARD_CROPS
from toconv.tokens.shards import Claims, Shard


def encoding_tasks(settings: Settings, claims: Claims, missing: Sequence[Shard]) -> list[Task]:
    """None where there is one device, which is the driver's own too, or one shard."""
    asked = devices(settings.hardware)[: len(missing)]
    if len(asked) < 2:
        return []
    kind = "GPUs" if asked[0] else "machines"
    say(f"encoding on {len(asked)} {kind}, each a shard of at most {SHARD_CROPS} images at a time")
    return [Task(_encode_share, (settings, claims, missing), gpu) for gpu in asked]


def _encode_share(settings: Settings, claims: Claims, missing: Sequence[Shard]) -> None:
    """Without a GPU on all cores: Ray has a task of one CPU use one."""
    limit_threads(settings.hardware, os.cpu_count())
    encode_share(settings, claims, missing)
