"""How many trials fit into a cluster that others join and leave while the sweep runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from toconv.errors import RequestError
from toconv.sweep.cluster import Cluster
from toconv.sweep.fits import usable
from toconv.sweep.ray_address import joined
from toconv.sweep.schema import Resources
from toconv.sweep.steering import Steering

LOOK_SECONDS = 5.0


class Room:
    """Call `look` as often as you like. A cluster of the sweep's own stays as it is."""

    def __init__(self, asked: Resources, cluster: Cluster, steering: Steering) -> None:
        self._asked, self._cluster, self._steering = asked, cluster, steering
        self._looked = time.monotonic()

    def look(self) -> None:
        """Raises MachineryError where the cluster does not answer."""
        if joined() and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._count()

    def _count(self) -> None:
        with suppress(RequestError):  # not one fits just now: those that run wait for a machine
            machines = self._cluster.machines(self._asked.accelerator)
            self._steering.has_room(usable(self._asked, machines)[1])

    @contextmanager
    def each_with(self, resources: Resources) -> Iterator[None]:
        """Within, a trial asks for these."""
        asked, self._asked = self._asked, resources
        self._count()
        try:
            yield
        finally:
            self._asked = asked
            self._count()
