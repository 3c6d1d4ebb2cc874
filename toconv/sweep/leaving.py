"""Which running trials are to save at their next step and give their workers back: all of them once the sweep is told
to end soon, and those on machines of the cluster that are drained, which their workers see themselves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from toconv.errors import MachineryError
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
        self.drained: frozenset[str] = frozenset()

    def poll(self, everybody: bool) -> None:
        """A trial that is marked already is marked again: its worker may have begun since, and taken the mark for one
        of an earlier time."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self.look()
        for trial_id in self._driver.open if everybody else ():
            self._mark(self._driver.paths.trial(trial_id))

    def _mark(self, paths: TrialPaths) -> None:
        paths.folder.mkdir(parents=True, exist_ok=True)
        paths.leave.touch()
        if self._driver.remote:
            with suppress(MachineryError):  # then its epoch ends first
                ask_to_leave(self._driver.remote, paths)

    def look(self) -> None:
        """Find which machines are drained now; says so of each once."""
        drained = frozenset(self._draining())
        for node in drained - self.drained:
            on_it = [proposal.name for proposal in self._driver.open.values() if self._node(proposal.trial_id) == node]
            told = ", ".join(on_it) or "none is there"
            say(f"node {node[:8]} is drained; trials that save at their next step and go on elsewhere: {told}")
        self.drained = drained

    def _node(self, trial_id: str) -> str | None:
        """Where the trial trains, or trained last."""
        paths, remote = self._driver.paths.trial(trial_id), self._driver.remote
        try:
            told = node_of(remote, paths) if remote else paths.worker.read_bytes()
            return str(json.loads(told or b"")["node"])
        except (MachineryError, OSError, ValueError, KeyError, TypeError):  # nowhere yet
            return None


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
