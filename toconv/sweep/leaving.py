"""Which running trials are to save at their next step and give their workers back: all of them once the sweep is told
to end soon, and those on machines of the cluster that are drained, which their workers see themselves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from toconv.errors import MachineryError
from toconv.object_store import ObjectStore
from toconv.paths import TrialPaths
from toconv.progress import say
from toconv.sweep.remote_trials import ask_to_leave, node_of

if TYPE_CHECKING:  # workers import this module too
    from toconv.sweep.driver import Driver

LOOK_SECONDS = 1.0
OWN_LOOK_SECONDS = 0.2  # of a worker, for whether its machine is drained


class Leaving:
    """Call `poll` as often as you like."""

    def __init__(self, driver: Driver, draining: Callable[[], Collection[str]]) -> None:
        """`draining`: the ids of nodes that are to go."""
        self._driver, self._draining = driver, draining
        self._looked = float("-inf")
        self._asking: threading.Thread | None = None  # those whose workers see no folder of the driver's
        self.drained: frozenset[str] = frozenset()

    def poll(self, everybody: bool) -> None:
        """A trial that is marked already is marked again: its worker may have begun since, and taken the mark for one
        of an earlier time."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self.look()
        if everybody:
            self._mark([self._driver.paths.trial(trial_id) for trial_id in self._driver.open])

    def _mark(self, trials: Sequence[TrialPaths]) -> None:
        """In the object store beside the driver, which one that does not answer must not hold up."""
        for paths in trials:
            paths.folder.mkdir(parents=True, exist_ok=True)
            paths.leave.touch()
        if self._driver.remote and not (self._asking and self._asking.is_alive()):
            self._asking = threading.Thread(
                target=_ask, args=(self._driver.remote, trials), daemon=True, name="asks the object store"
            )
            self._asking.start()

    def look(self) -> None:
        """Find which machines are drained now; says so of each once."""
        drained = frozenset(self._draining())
        for node in drained - self.drained:
            told = ", ".join(self._on(node)) or "none is there"
            say(f"node {node[:8]} is drained; trials that save at their next step and go on elsewhere: {told}")
        self.drained = drained

    def _on(self, node: str) -> list[str]:
        """Names of the trials that train there, or trained there last; none where the object store does not answer."""
        try:
            return [proposal.name for proposal in self._driver.open.values() if self._node(proposal.trial_id) == node]
        except MachineryError:
            return []

    def _node(self, trial_id: str) -> str | None:
        """Where the trial trains, or trained last. Raises MachineryError where the object store does not answer."""
        paths, remote = self._driver.paths.trial(trial_id), self._driver.remote
        try:
            told = node_of(remote, paths) if remote else paths.worker.read_bytes()
            return str(json.loads(told or b"")["node"])
        except (OSError, ValueError, KeyError, TypeError):  # nowhere yet
            return None


def _ask(remote: ObjectStore, trials: Sequence[TrialPaths]) -> None:
    with suppress(MachineryError):  # then their epochs end first
        for paths in trials:
            ask_to_leave(remote, paths)


class DrainedHere:
    """In a worker: a training is marked to leave once its machine is drained."""

    def __init__(self, paths: TrialPaths, is_drained: Callable[[], bool]) -> None:
        self._leave, self._is_drained, self._ended = paths.leave, is_drained, threading.Event()
        threading.Thread(target=self._look, daemon=True, name="drained").start()

    def _look(self) -> None:
        while not self._is_drained():
            if self._ended.wait(OWN_LOOK_SECONDS):
                return
        with suppress(OSError):  # a disk that is gone, which the training meets too
            self._leave.touch()

    def close(self) -> None:
        self._ended.set()
