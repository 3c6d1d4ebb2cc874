"""A word to whoever waits for a sweep: at its end, at a failure of machinery or of the first trial, at a spent budget.

What cannot be sent costs the sweep nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from pydantic import AfterValidator, Field, model_validator

from toconv import __version__
from toconv.command_group import run_group
from toconv.errors import RequestError, ToconvError, first_line
from toconv.paths import SweepPaths
from toconv.progress import console, duration
from toconv.ranges import Text
from toconv.settings import Group
from toconv.sweep.own_measure import search_path
from toconv.sweep.status import Status, look

PLACEHOLDER = re.compile(r"\{(\w+)\}")
KNOWN = ("event", "name", "text")  # what stands for something in a command
TIMEOUT_SECONDS = 10.0  # of one try
PAUSES = (1.0, 4.0)  # seconds before the second try and before the third
CLOSE_SECONDS = 30.0  # that the end of a sweep waits for what is being sent


class Event(StrEnum):
    """What a word is about."""

    ENDED = "ended"
    MACHINERY = "machinery"
    FIRST_FAILURE = "first_failure"
    BUDGET = "budget"


SAYS = {
    Event.ENDED: "done",
    Event.MACHINERY: "stopped, the machinery gave way",
    Event.FIRST_FAILURE: "its first trial failed, the rest goes on",
    Event.BUDGET: "stopped, its budget is spent",
}


def _split(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"cannot be split into words ({error})") from None
    if unknown := sorted({name for word in words for name in PLACEHOLDER.findall(word)} - set(KNOWN)):
        known = ", ".join(f"{{{name}}}" for name in KNOWN)
        raise ValueError(f"{{{unknown[0]}}}: stands for nothing; {known} do")
    if not words or PLACEHOLDER.search(words[0]):
        raise ValueError("must begin with a program")
    return command


class Notify(Group):
    """The section `notify` of a sweep file."""

    command: Annotated[Text, AfterValidator(_split)] | None = None
    url_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Notify:
        if (self.command is None) == (self.url_env is None):
            raise ValueError("give a command or a url_env" + (", not both" if self.command else ""))
        return self


def check_notify(asked: Notify | None) -> None:
    """Raises RequestError, before any work, where no word could ever be sent."""
    if asked and asked.url_env:
        kind, host = urlsplit(os.environ.get(asked.url_env, ""))[:2]
        if kind not in {"http", "https"} or not host:
            lacks = "holds no http:// or https:// address" if os.environ.get(asked.url_env) else "is not set"
            raise RequestError(f"notify.url_env={asked.url_env}: {lacks} in the environment")
    if asked and asked.command:
        program = shlex.split(asked.command)[0]
        if shutil.which(program, path=search_path()) is None:
            raise RequestError(f"notify.command={asked.command}: no program {program} is found")


class Notifier:
    """Sends each word in a thread of its own; the end of its block waits for them, and tells of machinery that gave
    way."""

    def __init__(self, asked: Notify | None, paths: SweepPaths) -> None:
        self._asked, self._paths = asked, paths
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, RequestError):
            self.send(Event.MACHINERY, first_line(error))
        end = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def send(self, event: Event, why: str = "") -> None:
        if self._asked:
            thread = threading.Thread(target=self._work, args=(self._asked, event, why), daemon=True, name="notify")
            self._threads.append(thread)
            thread.start()

    def _work(self, asked: Notify, event: Event, why: str) -> None:
        """Whatever can go wrong here is said, and nothing more."""
        try:
            text = message(self._paths, event, why)
            given = {"event": str(event), "name": self._paths.root.name, "text": text}
            failed = _post(os.environ.get(asked.url_env, ""), given) if asked.url_env else self._run(asked, given)
        except Exception as error:
            failed = type(error).__name__
        if failed:
            console.print(f"notify: the word of {event} was not sent ({failed})")

    def _run(self, asked: Notify, given: Mapping[str, str]) -> str | None:
        """Why the command did nothing, if so."""
        words = [PLACEHOLDER.sub(lambda found: given[found[1]], word) for word in shlex.split(asked.command or "")]
        environment = {**os.environ, "PATH": search_path()}
        log = self._paths.root / "notify.log"
        code = run_group(words, TIMEOUT_SECONDS, log, Path.cwd(), environment)
        if code is None:
            return f"had not ended after {TIMEOUT_SECONDS:.0f} s; {log}"
        return f"exit code {code}; {log}" if code else None


def message(paths: SweepPaths, event: Event, why: str = "") -> str:
    """Five lines, as one reads them on a phone."""
    name = paths.root.name
    try:
        status = look(paths)
    except ToconvError:  # what gave way may be the ledger
        return "\n".join([f"{name}: {SAYS[event]}", why, f"{socket.gethostname()}:{paths.root}"])
    since = status.running.since if status.running else time.time()
    place = paths.report if paths.report.exists() else paths.root
    lines = (
        f"{name}: {SAYS[event]}, {duration(time.time() - since)} after its start",
        f"{status.ended} ({', '.join(f'{count} {state}' for state, count in sorted(status.counts.items())) or 'none'})",
        _best(status),
        why or _failed(status),
        f"{socket.gethostname()}:{place}",
    )
    return "\n".join(lines)


def _best(status: Status) -> str:
    found = [f"{cell} {trial.distortion:.4f}" for cell, trial in status.best.items()]
    return f"lowest distortion: {', '.join(found)}" if found else "no trial is complete"


def _failed(status: Status) -> str:
    if not status.failed:
        return "nothing failed"
    return f"failed: {'; '.join(f'{trial.name} ({trial.reason})' for trial in status.failed[:3])}"


def _post(url: str, given: Mapping[str, str]) -> str | None:
    """POST it as JSON, `text` as Slack, Mattermost and Teams take it and `content` as Discord does. Returns why nobody
    took it, if so, without the address, which is a secret."""
    body = json.dumps({**given, "sweep": given["name"], "content": given["text"]}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"toconv/{__version__}"}
    failed = None
    for pause in (0.0, *PAUSES):
        time.sleep(pause)
        try:
            with urlopen(Request(url, body, headers), timeout=TIMEOUT_SECONDS):
                return None
        except HTTPError as error:
            failed = f"HTTP {error.code}"
        except URLError as error:
            failed = type(error.reason).__name__ if isinstance(error.reason, BaseException) else "no such address"
        except (OSError, HTTPException, ValueError) as error:
            failed = type(error).__name__
    return failed
