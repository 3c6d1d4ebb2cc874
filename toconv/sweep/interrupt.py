"""What stops a sweep from outside: Ctrl-C, SIGTERM, and machinery that went away."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from toconv.command_line import same_command
from toconv.errors import ExitCode, MachineryError

POLL_SECONDS = 1.0
LAST_SECONDS = 45.0  # that a process whose machinery went away has left to say so


class Interrupt:
    """The first SIGINT or SIGTERM asks for a stop (`asked`), SIGTERM for a `soon` one, since whoever sends it gives a
    process little time; the second raises KeyboardInterrupt at once."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self.asked = self.soon = False
        self._lost: str | None = None
        self._raised: BaseException | None = None

    @contextmanager
    def handling(self, lost: Callable[[], str | None]) -> Iterator[Interrupt]:
        """Handle signals, and poll `lost`: once it names what went away, the main thread gets a MachineryError.
        Whatever came of what a handler raised leaves as that: compiled code of Ray turns it into a SystemError."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        done = threading.Event()
        threading.Thread(target=self._watch, args=(lost, done), daemon=True, name="watch").start()
        try:
            yield self
        except BaseException as error:
            if self._raised in {None, error}:
                raise
            raise self._raised from error
        finally:
            done.set()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self._lost or self.asked:
            self._raised = MachineryError(self._lost) if self._lost else KeyboardInterrupt()
            raise self._raised
        self.asked, self.soon = True, number == signal.SIGTERM
        self._on_first()

    def _watch(self, lost: Callable[[], str | None], done: threading.Event) -> None:
        while not done.wait(POLL_SECONDS):
            self._lost = lost()
            if self._lost:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                time.sleep(LAST_SECONDS)
                print(f"error: {self._lost}\n{same_command()}", file=sys.stderr, flush=True)
                os._exit(ExitCode.MACHINERY)  # the main thread hangs in what went away
