"""Which process runs a sweep, and how far it is: running.json, written by its driver for whoever looks from outside."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from toconv.errors import DamagedFile
from toconv.machine import process_began, user
from toconv.paths import SweepPaths, write_atomic
from toconv.ranges import Moment
from toconv.state_files import read_json

WRITTEN_SECONDS = 10.0  # at the latest, while trials run
LOOK_SECONDS = 1.0
SILENT_SECONDS = 6 * WRITTEN_SECONDS  # after which a driver on another machine is not believed to live
SAME_PROCESS = 2.0  # seconds by which two readings of when a process began may differ


class Standing(StrEnum):
    """How a sweep stands."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"  # its command goes on with it
    DONE = "done"
    UNKNOWN = "not known"  # of a sweep before there was running.json


AT_WORK = {Standing.RUNNING, Standing.PAUSED}


class Running(BaseModel, extra="ignore"):
    """What running.json holds."""

    host: str
    pid: Annotated[int, Field(ge=1, lt=2**31)]
    began: Moment  # the process
    user: str | None
    since: Moment
    until: Moment | None = None  # where it ended in order
    error: str | None = None  # what ended it, where something did
    epochs: int = 0  # of a trial
    epochs_of: dict[str, int] = Field(default_factory=dict)  # by cell, of a trial there, where cells differ in them
    slots: int = 0  # trials at a time
    planned: int = 0
    left: int | None = None  # trials that have not ended; None before they are known
    paused: bool = False

    def lives(self, written: float) -> bool:
        """Whether that process is still there; `written` is when the file was. One of another machine cannot be looked
        for: it is believed to be there while it writes."""
        if self.until is not None:
            return False
        if self.host != socket.gethostname():
            return time.time() - written < SILENT_SECONDS
        began = process_began(self.pid)
        return began is not None and abs(began - self.began) < SAME_PROCESS


class Announcement:
    """A driver's running.json: nothing before the first `tell`, and how the driver ended once its block ends."""

    def __init__(self, paths: SweepPaths, epochs: int) -> None:
        now, pid = time.time(), os.getpid()
        began = process_began(pid) or now
        self._path, self._written, self._looked = paths.running, 0.0, 0.0  # by the monotonic clock
        self._told = Running(host=socket.gethostname(), pid=pid, began=began, user=user(), since=now, epochs=epochs)

    def __enter__(self) -> Announcement:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._written:
            what = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) if error else None
            self.tell(until=time.time(), error=what)

    def tell(self, **changes: Any) -> None:
        """Write what has changed, and anything every WRITTEN_SECONDS."""
        told = self._told.model_copy(update=changes)
        if told != self._told or not self._written or time.monotonic() - self._written > WRITTEN_SECONDS:
            self._told, self._written = told, time.monotonic()
            write_atomic(self._path, json.dumps(told.model_dump(mode="json"), indent=1) + "\n")

    def tell_at_times(self, changes: Callable[[], Mapping[str, Any]]) -> None:
        """Call as often as you like: `changes`, which read the ledger, are asked for every LOOK_SECONDS."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.tell(**changes())
            self._looked = time.monotonic()


def running(paths: SweepPaths) -> Running | None:
    """What the last driver told; None where there was none, or where it cannot be read: it is written anew."""
    try:
        return read_json(paths.running, TypeAdapter(Running)) if paths.running.exists() else None
    except DamagedFile:
        return None


def at_work(paths: SweepPaths) -> bool:
    """Whether a process runs the sweep now."""
    return standing(paths, running(paths)) in AT_WORK


def standing(paths: SweepPaths, told: Running | None) -> Standing:
    if told is None:
        return Standing.UNKNOWN
    try:
        written = paths.running.stat().st_mtime
    except FileNotFoundError:  # it was removed since it was read
        return Standing.UNKNOWN
    if told.lives(written):
        return Standing.PAUSED if told.paused else Standing.RUNNING
    return Standing.DONE if told.left == 0 and told.until and not told.error else Standing.STOPPED
