"""Work in processes of its own, forked before anything touches CUDA or starts threads: each begins within
milliseconds, may be killed, and leaves nothing behind on the card."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

FORK = multiprocessing.get_context("fork")
END = "end"


class CutOff(Exception):
    """The time limit came first."""


def stream(work: Callable[[], Iterator[Any]], seconds: float) -> Iterator[Any]:
    """What `work` yields in another process, as it comes. Raises CutOff after `seconds`, and what `said` makes of an
    error there as RuntimeError."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_child, args=(work, theirs))
    process.start()
    theirs.close()
    deadline = time.monotonic() + seconds
    try:
        while True:
            if not ours.poll(max(0.0, deadline - time.monotonic())):
                raise CutOff(f"cut off after {seconds:.0f} s")
            kind, value = ours.recv()
            if kind == END:
                return
            if kind == "error":
                raise RuntimeError(value)
            yield value
    except EOFError:
        process.join()
        raise RuntimeError(f"its process ended by itself, exit code {process.exitcode}") from None
    finally:
        end(process)


def _child(work: Callable[[], Iterator[Any]], to: Connection) -> None:
    os.setsid()  # so that it ends together with processes of its own
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for value in work():
            to.send(("value", value))
        to.send((END, None))
    except Exception as error:
        to.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"))


def end(process: Any) -> None:
    """The process and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()
    process.join()


def once(work: Callable[[], Any], seconds: float) -> Any:
    """What `work` gives in another process."""
    (value,) = stream(lambda: iter([work()]), seconds)
    return value


def at_once(works: list[Callable[[Callable[[], None]], Any]], seconds: float) -> list[Any]:
    """What each gives in a process of its own. Each is handed a function to call when it is ready, which returns once
    all are. Raises RuntimeError where one fails, CutOff where one takes too long."""
    barrier, started = FORK.Barrier(len(works)), {}
    for place, work in enumerate(works):
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=_member, args=(work, lambda: barrier.wait(seconds), theirs))
        process.start()
        theirs.close()
        started[ours] = (place, process)
    try:
        return [value for _, value in sorted(_answers({ours: place for ours, (place, _) in started.items()}, seconds))]
    except EOFError:
        raise RuntimeError("a process ended by itself") from None
    finally:
        for _, process in started.values():
            process.kill()
            process.join()


def _answers(waiting: dict[Connection, int], seconds: float) -> Iterator[tuple[int, Any]]:
    """Place and value of each, as they come; the first failure ends it, since the others wait for that process."""
    deadline = time.monotonic() + seconds
    while waiting:
        ready = wait([*waiting], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise CutOff(f"not done after {seconds:.0f} s")
        for connection in ready:
            kind, value = connection.recv()
            if kind == "error":
                raise RuntimeError(value)
            yield waiting.pop(connection), value


def _member(work: Callable[[Callable[[], None]], Any], ready: Callable[[], Any], to: Connection) -> None:
    try:
        to.send(("value", work(ready)))
    except Exception as error:
        to.send(("error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"))
