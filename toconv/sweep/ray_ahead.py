"""A sweep's Ray cluster, started beside what comes before trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toconv.paths import SweepPaths
from toconv.progress import console
from toconv.sweep.preflight import before_ray
from toconv.sweep.ray_address import joined
from toconv.sweep.running import Standing, running, standing

if TYPE_CHECKING:
    from toconv.sweep.cluster import Cluster


@contextmanager
def ray_ahead(paths: SweepPaths, listen: bool = False) -> Iterator[Callable[[], Cluster]]:
    """Yields what gives the sweep's Ray cluster. It starts beside the imports and checks that come before trials;
    where there is nothing left to run, as far as the last start told, it starts when it is asked for."""
    found: list[Cluster] = []
    for line in before_ray(listen):
        console.print(line)

    def cluster() -> Cluster:
        if not found:
            from toconv.sweep.cluster import Cluster  # start-up: Ray

            found.append(Cluster())
        return found[0]

    try:
        if standing(paths, running(paths)) is not Standing.DONE:
            cluster()
            if joined():
                cluster().machines()  # one that is gone is told of before any work
        yield cluster
    finally:
        for started in found:
            started.stop()
