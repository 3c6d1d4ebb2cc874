"""Encoding on every device of a cluster: a Ray task each, which encodes what no other has claimed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toconv.hardware import limit_threads
from toconv.paths import SweepPaths
from toconv.progress import say
from toconv.settings import Settings
from toconv.sweep.baselines import smaller_sizes
from toconv.sweep.cluster import Cluster, Task, devices, shared
from toconv.sweep.file import Sweep
from toconv.sweep.fits import check_fits, usable
from toconv.sweep.nodes import check_nodes
from toconv.sweep.request import check_request
from toconv.sweep.running import Announcement
from toconv.tokens.encode_shards import encode_share
from toconv.tokens.manifest import SHARD_CROPS
from toconv.tokens.room import check_room
from toconv.tokens.shards import Claims, Shard

if TYPE_CHECKING:
    from toconv.tokens.smaller_picture import Lacking


def before_encoding(
    asked: Sweep,
    paths: SweepPaths,
    cluster: Callable[[], Cluster],
    announcement: Announcement,
    claims: Claims,
    missing: list[Shard],
) -> list[Task]:
    """Hours of encoding would be lost to a sweep that is refused, or to a Ray that does not start. Returns the tasks
    that encode."""
    check_room(asked.base, claims.folder, missing, smaller_sizes(asked, claims.folder))
    check_request(asked, paths, claims.folder.name)
    usable(asked.file.resources, cluster().machines(asked.file.resources.accelerator))
    check_fits(asked.file.evaluation, cluster().machines())
    check_nodes(asked, [claims.folder, paths.root])
    announcement.tell()
    return encoding_tasks(asked.base, claims, missing)


def encoding_tasks(settings: Settings, claims: Claims, missing: Sequence[Shard]) -> list[Task]:
    """None where there is one device, which is the driver's own too, or one shard."""
    asked = devices(settings.hardware)[: len(missing)]
    if len(asked) < 2:
        return []
    kind = "GPUs" if asked[0] else "machines"
    say(f"encoding on {len(asked)} {kind}, each a shard of at most {SHARD_CROPS} images at a time")
    given = (settings, claims, shared(missing))
    return [Task(_encode_share, given, gpu) for gpu in asked]


def smaller_tasks(asked: Sweep, store: Path, cluster: Callable[[], Cluster], lacking: Lacking) -> list[Task]:
    """The same for smaller pictures: on this machine's devices alone where others do not see the `store`."""
    if len(lacking.shards) < 2:
        return []
    cluster()
    everywhere = check_nodes(asked, [store])
    on = devices(asked.base.hardware, here=not everywhere)[: len(lacking.shards)]
    if len(on) < 2:
        return []
    given = (asked.base, shared(lacking))
    return [Task(_encode_smaller_share, given, gpu, here=not everywhere) for gpu in on]


def _encode_smaller_share(settings: Settings, lacking: Lacking) -> None:
    from toconv.tokens.smaller_picture import encode_smaller_share  # start-up: torchvision, where nothing is encoded

    limit_threads(settings.hardware, os.cpu_count())
    encode_smaller_share(settings, lacking)


def _encode_share(settings: Settings, claims: Claims, missing: Sequence[Shard]) -> None:
    """Without a GPU on all cores: Ray has a task of one CPU use one."""
    limit_threads(settings.hardware, os.cpu_count())
    encode_share(settings, claims, missing)
