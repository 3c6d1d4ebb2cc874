"""SIGINT and SIGTERM: the first ends a command as Ctrl-C does, or asks it to; two of them end it whatever hangs."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from toconv.errors import ExitCode

ENDING = {signal.SIGINT, signal.SIGTERM}
GRACE_SECONDS = 15.0  # that a command has left after the second signal


@contextmanager
def two_end_it(last_words: Callable[[], str]) -> Iterator[None]:
    """Within, SIGTERM is a KeyboardInterrupt too. GRACE_SECONDS after the second signal the process ends with
    `last_words`, also where the main thread waits in compiled code, in which no handler of Python's runs: the
    interpreter writes the number of each signal into a pipe (signal.set_wakeup_fd), and a thread reads it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    over = threading.Event()
    before = signal.signal(signal.SIGTERM, _interrupt), signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading, over, last_words), daemon=True, name="signals")
    watch.start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGTERM, before[0])
        signal.set_wakeup_fd(before[1])
        os.close(writing)
        watch.join(1.0)


@contextmanager
def sigterm_asks() -> Iterator[Callable[[], bool]]:
    """Within, the first SIGTERM interrupts nothing, and what is yielded is true from then on; the next one is a
    KeyboardInterrupt."""
    is_asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda: is_asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch(reading: int, over: threading.Event, last_words: Callable[[], str]) -> None:
    seen = 0
    while seen < 2:
        number = os.read(reading, 1)
        if not number:  # the other end is closed: the command has ended
            break
        seen += number[0] in ENDING
    if not over.wait(0 if seen < 2 else GRACE_SECONDS) and seen == 2:
        print(f"\ninterrupted twice; what was finished is kept\n{last_words()}", file=sys.stderr, flush=True)
        os._exit(ExitCode.INTERRUPTED)
    os.close(reading)
