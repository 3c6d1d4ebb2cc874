"""The Ray cluster that a sweep runs on. Knows Ray, and nothing of Tune, which takes a second to import."""

from __future__ import annotations

import gc
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from toconv.command_line import collect_seldom

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # workers start at once: the searcher knows how many slots there are
    "RAY_prestart_worker_first_driver": "0",  # Tune's actors have an environment of their own and never use those
}
os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
collect_seldom()  # in a worker too, before it imports Tune and torch

import ray  # noqa: E402 - reads the environment when it is imported

from toconv.errors import MachineryError, first_line  # noqa: E402

if TYPE_CHECKING:
    from toconv.sweep.file import Resources

PROBE_SECONDS = 10.0
OBJECT_STORE_BYTES = 100 * 2**20  # nothing large goes through it: tokens are read by memory map


class Cluster:
    """The Ray cluster that RAY_ADDRESS names, or one of our own for as long as it is needed. Starts as soon as it is
    made, beside whatever the driver does meanwhile."""

    def __init__(self) -> None:
        self._found = ray.is_initialized()
        self._error: Exception | None = None
        self._started, self._stopped = threading.Event(), threading.Event()
        threading.Thread(target=self._run, daemon=True, name="ray").start()

    def _run(self) -> None:
        """Ray's processes end with the thread that started them (PR_SET_PDEATHSIG), which therefore stays."""
        try:
            self._begin()
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            self._error = error
        finally:
            self._started.set()
        self._stopped.wait()

    def _begin(self) -> None:
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        if not self._found and os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        elif not self._found:
            ray.init("local", object_store_memory=OBJECT_STORE_BYTES, **quiet)

    def resources(self) -> dict[str, float]:
        """What the cluster has, once it runs. Raises MachineryError where it did not start."""
        self._started.wait()
        if self._error:
            raise MachineryError(f"Ray did not start: {first_line(self._error)}") from self._error
        return ray.cluster_resources()

    def stop(self) -> None:
        """End a cluster of our own, leave any other. Tune's garbage goes first: handles that are freed while Ray ends
        end this process with it."""
        self._started.wait()
        gc.collect()
        if not self._found:
            with suppress(ray.exceptions.RayError, ConnectionError, RuntimeError):  # of a cluster that is gone already
                ray.shutdown()
        self._stopped.set()


RAY_ERRORS = (ray.exceptions.RayError, ConnectionError)


def node_id() -> str:
    """Of the node that this worker runs on."""
    return str(ray.get_runtime_context().get_node_id())


def in_use() -> dict[str, tuple[float, float]]:
    """{CPU, GPU: (how much of it trials hold, how much there is)} on the whole cluster."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return {name: (total[name] - free.get(name, 0.0), total[name]) for name in ("CPU", "GPU") if name in total}


def usable(asked: Resources, present: dict[str, float]) -> tuple[Resources, int]:
    """A trial's resources on this cluster and how many trials it holds at once. Where there is no GPU, gpu counts as 0.
    Raises MachineryError where not one trial fits."""
    gpu = asked.gpu if present.get("GPU", 0) else 0.0
    slots = int(min(present.get("CPU", 0) // asked.cpu, present["GPU"] // gpu if gpu else float("inf")))
    if slots < 1:
        raise MachineryError(
            f"resources: a trial asks for cpu={asked.cpu}, gpu={asked.gpu}; the cluster has "
            f"cpu={present.get('CPU', 0):g}, gpu={present.get('GPU', 0):g}"
        )
    return asked.model_copy(update={"gpu": gpu}), slots


def unreachable() -> str | None:
    """What of Ray no longer answers on this machine, if something does not: Ray itself may hang then, not raise."""
    node = ray._private.worker._global_node
    if node is None:
        return None
    host, _, port = node.gcs_address.rpartition(":")
    for name, family, address in (
        ("raylet", socket.AF_UNIX, node.raylet_socket_name),
        ("GCS", socket.AF_INET, (host, int(port))),
    ):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(address)
            except TimeoutError:
                continue  # slow is not gone
            except OSError as error:
                return f"Ray's {name} on this machine is gone ({error.strerror})"
    return None
