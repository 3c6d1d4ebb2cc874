"""What stops a sweep from outside: Ctrl-C, SIGTERM, and machinery that went away."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from toconv.errors import ExitCode, MachineryError

POLL_SECONDS = 1.0
LAST_SECONDS = 45.0  # that a process whose machinery went away has left to say so


class Interrupt:
    """The first SIGINT or SIGTERM asks for a stop (`asked`), the second raises KeyboardInterrupt at once."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self.asked = False
        self._lost: str | None = None

    @contextmanager
    def handling(self, lost: Callable[[], str | None]) -> Iterator[Interrupt]:
        """Handle signals, and poll `lost`: once it names what went away, the main thread gets a MachineryError."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        done = threading.Event()
        threading.Thread(target=self._watch, args=(lost, done), daemon=True, name="watch").start()
        try:
            yield self
        finally:
            done.set()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self._lost:
            raise MachineryError(self._lost)
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._on_first()

    def _watch(self, lost: Callable[[], str | None], done: threading.Event) -> None:
        while not done.wait(POLL_SECONDS):
            self._lost = lost()
            if self._lost:
                _thread.interrupt_main()
                time.sleep(LAST_SECONDS)
                os._exit(ExitCode.MACHINERY)  # the main thread hangs in what went away
