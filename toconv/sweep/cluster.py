"""The Ray cluster that a sweep runs on. Knows Ray, and nothing of Tune, which takes a second to import."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from toconv.command_line import collect_seldom
from toconv.errors import MachineryError, RequestError, first_line
from toconv.paths import packed
from toconv.progress import phase
from toconv.settings import HardwareSettings
from toconv.sweep.fits import having, kind_of
from toconv.sweep.preflight import SHARED_BYTES, ray_folder
from toconv.sweep.ray_address import LOOPBACK, host_and_port, joined, keep_to_loopback, no_cluster
from toconv.sweep.ray_session import RaySession
from toconv.sweep.ray_token import show_token

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
show_token()
keep_to_loopback()
collect_seldom()  # in a worker too, before it imports Tune and torch

import ray  # noqa: E402 - reads the environment when it is imported
from ray._private.resource_and_label_spec import ResourceAndLabelSpec  # noqa: E402 - as ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402 - as ray

Result = TypeVar("Result")
Resources = dict[str, float]  # CPU, GPU and others of one machine

PROBE_SECONDS = 10.0
JOIN_SECONDS, START_SECONDS = 30.0, 300.0  # that a cluster which is there has to answer, and one of our own to start
STOP_SECONDS = 30.0
ANSWER_SECONDS = 120.0  # that a machine has to start a worker and to answer
WORKER_RETRIES = 2  # of a worker that died; what failed by itself is not run again


class Cluster:
    """The Ray cluster that RAY_ADDRESS names, or one of our own for as long as it is needed. Starts as soon as it is
    made, beside whatever the driver does meanwhile."""

    def __init__(self) -> None:
        self._found = ray.is_initialized()
        self._joined = None if self._found else joined()
        self._end = time.monotonic() + (JOIN_SECONDS if self._joined else START_SECONDS)
        self._error: Exception | None = None
        self._session: RaySession | None = None
        self._started, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="ray")
        self._thread.start()

    def _run(self) -> None:
        """Ray's processes end with the thread that started them (PR_SET_PDEATHSIG), which therefore stays."""
        try:
            self._begin()
        except Exception as error:  # Ray's many kinds
            self._error = error
        finally:
            self._started.set()
        self._stopped.wait()
        if not self._found:
            with suppress(Exception):  # of a cluster that is gone already
                ray.shutdown()
        if self._session:
            self._session.remove()

    def _begin(self) -> None:
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        if self._joined:
            self._join(quiet)
        elif not self._found:
            self._session = RaySession(ray_folder())
            ray._raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]  # Ray keeps one
            temporary = str(self._session.temporary)
            ray.init("local", object_store_memory=SHARED_BYTES, _temp_dir=temporary, **quiet)

    def _join(self, quiet: dict[str, Any]) -> None:
        """Workers of other machines get this package, which need not be installed there; also of those that join
        later, which a cluster at the loopback address has not."""
        ray.init(self._joined, **quiet)
        nodes = alive_machines()
        if len(nodes) > 1 or nodes[0]["NodeManagerAddress"] not in LOOPBACK:
            ray.shutdown()
            with packed() as package:
                ray.init(self._joined, runtime_env={"py_modules": [str(package)]}, **quiet)

    def machines(self, accelerator: str | None = None) -> list[Resources]:
        """What each machine of the cluster has, once it runs, or each with such an `accelerator`; those that are to go
        count no more. Raises MachineryError where it does not answer in time, RequestError where no machine has
        that."""
        with phase(f"waiting for the Ray cluster at {self._joined}" if self._joined else "Ray starts"):
            answered = self._started.wait(max(0.0, self._end - time.monotonic()))
        if answered and not self._error:
            return within(JOIN_SECONDS, partial(_having, accelerator), "Ray did not say what its cluster has")
        why = first_line(self._error) if self._error else "no answer in time"
        if self._joined:
            raise no_cluster(self._joined, why) from self._error
        raise MachineryError(f"Ray did not start: {why}") from self._error

    def stop(self) -> None:
        """End a cluster of our own, leave any other, and do not wait for one that never answered. Tune's garbage goes
        first: handles that are freed while Ray ends end this process with it."""
        begun = self._started.wait(0.0 if self._joined else STOP_SECONDS)
        gc.collect()
        self._stopped.set()
        if begun:
            self._thread.join(STOP_SECONDS)


def _having(accelerator: str | None) -> list[Resources]:
    leaving = draining()
    of_nodes: list[Resources] = [node["Resources"] for node in alive_machines() if node["NodeID"] not in leaving]
    return [dict(found) for found in having(of_nodes, accelerator)]


def kind_here() -> dict[str, float]:
    """What Ray, which need not run, would count of this machine's accelerators beside their number."""
    manager, count = ResourceAndLabelSpec._get_current_node_accelerator(None, {})
    kind = manager.get_current_node_accelerator_type() if manager and count else None
    return {kind_of(kind): 1.0} if kind else {}


def within(seconds: float, call: Callable[[], Result], otherwise: str) -> Result:
    """What `call` gives; it runs in a thread, since Ray may hang in it. Raises MachineryError after so long."""
    found: list[Result] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            found.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="ray-call")
    thread.start()
    thread.join(seconds)
    if errors and isinstance(errors[0], RequestError):
        raise errors[0]
    if not found:
        why = first_line(errors[0]) if errors else f"no answer within {seconds:.0f} s"
        raise MachineryError(f"{otherwise} ({why})") from (errors[0] if errors else None)
    return found[0]


def devices(hardware: HardwareSettings, here: bool = False) -> list[float]:
    """What a task asks of GPUs to work on each device of the cluster, or of this node (`here`): one of each, none on
    each node where there are none to be used."""
    there = resources_here() if here else ray.cluster_resources()
    gpus = 0 if hardware.device == "cpu" else int(there.get("GPU", 0))
    return [1.0] * gpus or [0.0] * (1 if here else len(alive_nodes()))


def alive_machines() -> list[dict[str, Any]]:
    """Of the cluster, as Ray tells of them."""
    return [node for node in ray.nodes() if node["Alive"]]


def alive_nodes() -> dict[str, str]:
    """{id: name of the machine} of the cluster."""
    return {node["NodeID"]: node["NodeManagerHostname"] for node in alive_machines()}


def draining() -> set[str]:
    """Ids of the nodes that are to go: drained by `ray drain-node`, an autoscaler or whoever takes them back."""
    return set(ray._private.state.state.get_draining_nodes())


def is_drained() -> bool:
    """Whether the node that this process runs on is to go; what cannot be asked is no."""
    with suppress(*RAY_ERRORS):
        return node_id() in draining()
    return False


def on_each_node(call: Callable[..., Result], given: Sequence[Any]) -> dict[str, Result]:
    """{machine: what the call gives there}; one of the machines is this one. One that goes away meanwhile is left out.
    Raises MachineryError where one does not answer in time."""
    nodes, work = alive_nodes(), ray.remote(call)
    pinned = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    asked = [work.options(num_cpus=0, scheduling_strategy=at).remote(*given) for at in pinned]
    found, end = dict[str, Result](), time.monotonic() + ANSWER_SECONDS
    for (node, name), answer in zip(nodes.items(), asked, strict=True):
        try:
            found[f"{name} ({node[:8]})"] = ray.get(answer, timeout=max(0.0, end - time.monotonic()))
        except RAY_ERRORS as error:
            if node in alive_nodes():
                raise MachineryError(f"a machine of the Ray cluster does not answer: {first_line(error)}") from error
    return found


def shared(value: object) -> object:
    """As what a task is given: one copy of it for all tasks."""
    return ray.put(value)


class Task:
    """A function at work on one CPU of the cluster, and so many GPUs; tasks of several nodes lie on all of them, or all
    on this one."""

    def __init__(self, call: Callable[..., None], given: Sequence[Any], gpu: float, here: bool = False) -> None:
        where = NodeAffinitySchedulingStrategy(node_id(), soft=False) if here else "SPREAD"
        options = {"num_cpus": 1, "num_gpus": gpu, "max_retries": WORKER_RETRIES, "scheduling_strategy": where}
        work = ray.remote(call).options(**options)
        self._result = work.remote(*given)

    def ended(self) -> bool:
        """Raises MachineryError where the cluster is gone: Ray ends this process a minute later."""
        _must_answer()
        return bool(ray.wait([self._result], timeout=0)[0])

    def failure(self) -> str | None:
        """Why one that ended did not do its work. Raises MachineryError where that was what it raised, and as
        `ended`."""
        _must_answer()
        try:
            ray.get(self._result)
        except ray.exceptions.WorkerCrashedError:
            return f"its worker died more than {WORKER_RETRIES} times"
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, MachineryError):
                raise MachineryError(str(cause)) from error
            return f"{type(cause).__name__}: {first_line(cause)}"
        return None

    def cancel(self) -> None:
        ray.cancel(self._result, force=True)


def _must_answer() -> None:
    if gone := unreachable():
        raise MachineryError(gone)


RAY_ERRORS = (ray.exceptions.RayError, ConnectionError)
MemoryRanOut = ray.exceptions.OutOfMemoryError  # of a machine: Ray ended a worker before the system would have


def node_id() -> str:
    """Of the node that this process runs on."""
    return str(ray.get_runtime_context().get_node_id())


def resources_here() -> Resources:
    """CPU and GPU of that node."""
    found = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == node_id())
    return {name: found.get(name, 0.0) for name in ("CPU", "GPU")}


def in_use() -> dict[str, tuple[float, float]]:
    """{CPU, GPU: (how much of it trials hold, how much there is)} on the whole cluster."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return {name: (total[name] - free.get(name, 0.0), total[name]) for name in ("CPU", "GPU") if name in total}


def unreachable() -> str | None:
    """What of Ray no longer answers on this machine, if something does not: Ray itself may hang then, not raise."""
    node = ray._private.worker._global_node
    if node is None:
        return None
    for name, connect in (
        ("raylet", partial(_raylet, node.raylet_socket_name)),
        ("GCS", partial(socket.create_connection, host_and_port(node.gcs_address), PROBE_SECONDS)),
    ):
        try:
            connect().close()
        except TimeoutError:
            continue  # slow is not gone
        except OSError as error:
            return f"Ray's {name} on this machine is gone ({error.strerror})"
    return None


def _raylet(path: str) -> socket.socket:
    probe = socket.socket(socket.AF_UNIX)
    probe.settimeout(PROBE_SECONDS)
    probe.connect(path)
    return probe
