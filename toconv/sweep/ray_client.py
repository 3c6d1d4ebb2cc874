"""A sweep asked for from outside a cluster, by Ray's client: its driver runs on the cluster's first machine.

Tune and the ledger belong to one process, which Ray's client would part. So the whole command runs there, in the same
folder on a disk that both see, and what it prints comes back."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from toconv.errors import ExitCode, MachineryError, RequestError, first_line
from toconv.paths import PACKAGE, packed
from toconv.sweep.cluster import RAY_ERRORS
from toconv.sweep.ray_address import SETTING, check_door, no_cluster
from toconv.sweep.ray_token import check_token

import ray  # isort: skip - `cluster` sets the environment that it reads
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # isort: skip

HEAD = "node:__internal_head__"  # Ray's resource of the first machine
WAIT_SECONDS = 1.0
JOIN_SECONDS = 90.0  # after which it is not tried again


class DriverThere:
    """The command on the machine that this actor is on."""

    def __init__(self, words: Sequence[str], folder: str) -> None:
        """Raises FileNotFoundError where there is no such folder."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_") or "AUTH" in key}
        address = ray.get_runtime_context().gcs_address
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "toconv", "sweep", *words, f"{SETTING}={address}"],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(PACKAGE.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_heed_interrupts,
        )
        assert self._process.stdout
        self._output = self._process.stdout.fileno()

    def more(self) -> tuple[bytes, int | None]:
        """What it printed since, and its exit code once it has ended and all is told; waits WAIT_SECONDS for either."""
        if not select.select([self._output], [], [], WAIT_SECONDS)[0]:
            return b"", None
        said = os.read(self._output, 2**16)
        return said, None if said else self._process.wait()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)


def _heed_interrupts() -> None:
    """Ray's workers ignore or block SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def run_there(address: str, words: Sequence[str]) -> ExitCode:
    """How `toconv sweep` with these words ended on the first machine of the cluster at ray://HOST:PORT. Ctrl-C
    interrupts it there. Raises RequestError without the client, where the GCS answers instead, and as `check_token`;
    MachineryError where the cluster cannot be reached, does not see this folder, or is lost."""
    check_door(address)
    check_token()
    if importlib.util.find_spec("grpc") is None:
        raise RequestError(f'{SETTING}={address}: needs Ray\'s client; run: pip install "toconv[client]"')
    folder = os.getcwd()
    _join(address)
    try:
        (head,) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"])
        there = NodeAffinitySchedulingStrategy(head, soft=False)
        actor = ray.remote(DriverThere).options(num_cpus=0, scheduling_strategy=there).remote([*words], folder)
        return ExitCode(_told(actor))
    except RAY_ERRORS as error:
        lost = "its first machine has no such folder; run the command in one that all machines share"
        why = lost if "FileNotFoundError" in str(error) else first_line(error)
        raise MachineryError(f"{SETTING}={address}: {folder}: {why}") from error
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    """A busy cluster gives a client that it has let in up after half a minute, and takes the next one."""
    end = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            with packed() as package:
                quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
                ray.init(address, runtime_env={"py_modules": [str(package)]}, **quiet)
            return
        except Exception as error:  # the client's and gRPC's many kinds
            if time.monotonic() > end or not isinstance(error, ConnectionAbortedError):
                raise no_cluster(address, first_line(error)) from error
            time.sleep(WAIT_SECONDS)


def _told(actor: Any) -> int:
    """Prints what the actor's command does; its exit code."""
    interrupted, asked = False, None
    while True:
        try:
            asked = actor.more.remote() if asked is None else asked  # else what was said as Ctrl-C came would be lost
            found: tuple[bytes, int | None] = ray.get(asked)
            (said, code), asked = found, None
            sys.stdout.write(said.decode(errors="replace"))
            sys.stdout.flush()
            if code is not None:
                return int(code)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            ray.get(actor.interrupt.remote())
