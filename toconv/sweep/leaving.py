"""Which running trials are to save at their next step and give their workers back: all of them once the sweep is told
to end soon, and those on machines of the cluster that are drained."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from toconv.progress import say

if TYPE_CHECKING:  # workers import this module too
    from toconv.sweep.driver import Driver

LOOK_SECONDS = 1.0


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
        self._look()
        for trial_id in self._driver.open:
            if everybody or self._node(trial_id) in self.drained:
                paths = self._driver.paths.trial(trial_id)
                paths.folder.mkdir(parents=True, exist_ok=True)
                paths.leave.touch()

    def _look(self) -> None:
        drained = frozenset(self._draining())
        for node in drained - self.drained:
            on_it = [proposal.name for proposal in self._driver.open.values() if self._node(proposal.trial_id) == node]
            told = ", ".join(on_it) or "none is there"
            say(f"node {node[:8]} is drained; trials that save at their next step and go on elsewhere: {told}")
        self.drained = drained

    def _node(self, trial_id: str) -> str | None:
        """Where the trial trains, or trained last."""
        try:
            return str(json.loads(self._driver.paths.trial(trial_id).worker.read_text())["node"])
        except (OSError, ValueError, KeyError, TypeError):  # nowhere yet
            return None
