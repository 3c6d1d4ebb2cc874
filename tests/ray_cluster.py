"""A Ray cluster for the sweeps of a process of the tests that do not disturb theirs: Ray starts once."""

import atexit
import os
from functools import cache

from tests.forked import PROCESSES


@cache
def environment():
    """What a sweep needs in its environment to join the cluster, which starts when first asked for."""
    ours, its = PROCESSES.Pipe()
    process = PROCESSES.Process(target=_serve, args=(its,), daemon=True)
    process.start()
    its.close()
    atexit.register(_end, process, ours)
    return ours.recv()


def _end(process, ours):
    ours.close()
    process.join(60)


def _serve(its):
    """Until the other end is closed, also by the end of its process."""
    import ray

    from toconv.sweep.cluster import Cluster

    cluster = Cluster()
    cluster.machines()
    its.send({"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]})
    its.poll(None)
    cluster.stop()
