"""Requests to a sweep that runs, as files beside its ledger: each is written by rename by whoever asks, and answered by
the driver in a file beside it. Works over a shared folder, and opens no port."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from toconv.errors import DamagedFile
from toconv.machine import user
from toconv.paths import SweepPaths, write_atomic
from toconv.ranges import Moment
from toconv.settings import Group
from toconv.state_files import read_json

ANSWER = ".answer.json"  # how the name of an answer ends; before it stands the request's


class Act(StrEnum):
    """What can be asked of a sweep: each is a command of that name."""

    ADD = "add"
    STOP = "stop"
    SKIP = "skip"
    RETRY = "retry"
    FINISH = "finish"
    PAUSE = "pause"
    RESUME = "resume"
    SLOTS = "slots"
    EXTEND = "extend"


DID = {
    Act.ADD: "added",
    Act.STOP: "stopped",
    Act.SKIP: "skipped",
    Act.RETRY: "run again",
    Act.EXTEND: "extended",
}  # to a trial


class Verdict(StrEnum):
    TAKEN = "taken"  # in force, or done at the end of an epoch: a later start takes it up again
    DONE = "done"
    REFUSED = "refused"


class Note(Group):
    """Who asked for something, and when: what the ledger keeps of it beside a trial."""

    id: str
    act: Act
    user: str | None
    at: Moment

    @property
    def by(self) -> str:
        """`by alice at 2026-11-28 20:01:05 UTC`"""
        return f"by {self.user or 'somebody'} at {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(self.at))}"

    @property
    def says(self) -> str:
        """`stopped by alice at …`"""
        return f"{DID.get(self.act, self.act)} {self.by}"


def includes(notes: Iterable[Note], *acts: Act) -> bool:
    """Whether any of these was asked for."""
    return any(note.act in acts for note in notes)


class Asked(Note):
    """A request."""

    host: str = ""
    trial: str | None = None  # of `stop`, `skip` and `retry`
    params: dict[str, Any] = {}  # of `add`
    count: Annotated[int, Field(ge=1, le=10**6)] | None = None  # of `slots`; of `extend`, epochs
    trials: tuple[str, ...] = ()  # of `extend`
    anew: bool = False  # of `extend`: from the start

    @property
    def note(self) -> Note:
        return Note(id=self.id, act=self.act, user=self.user, at=self.at)

    @property
    def what(self) -> str:
        """`stop k=6/2`"""
        parts = [
            self.trial,
            self.count,
            *self.trials,
            "anew" if self.anew else None,
            *(f"{key}={value}" for key, value in self.params.items()),
        ]
        return " ".join([self.act, *(str(part) for part in parts if part is not None)])


class Answer(Group):
    verdict: Verdict
    says: str
    at: Moment


def request(act: Act, **about: Any) -> Asked:
    """Of this user, now. Requests are answered in the order of their ids."""
    now = int(time.time() * 1e6)  # as its id has it, so that those of one microsecond are in the order of their times
    id_ = f"{now:017d}-{secrets.token_hex(4)}"
    return Asked(id=id_, act=act, user=user(), at=now / 1e6, host=socket.gethostname(), **about)


class Inbox:
    """The requests of one sweep."""

    def __init__(self, paths: SweepPaths) -> None:
        self._folder = paths.steering
        self._closed: set[str] = set()  # ids of requests that nothing more is done about

    def post(self, asked: Asked) -> None:
        write_atomic(self._path(asked.id), json.dumps(asked.model_dump(mode="json"), indent=1) + "\n")

    def reply(self, id_: str, verdict: Verdict, says: str) -> None:
        answer = Answer(verdict=verdict, says=says, at=time.time())
        write_atomic(self._folder / f"{id_}{ANSWER}", json.dumps(answer.model_dump(mode="json"), indent=1) + "\n")

    def answer(self, id_: str) -> Answer | None:
        """Raises DamagedFile where it is none."""
        path = self._folder / f"{id_}{ANSWER}"
        return read_json(path, TypeAdapter(Answer)) if path.exists() else None

    def open(self) -> list[Asked]:
        """As `waiting`; a file that is no request is refused."""
        found, others = self._sorted()
        for id_ in others:
            self.reply(id_, Verdict.REFUSED, "the file is no request of toconv's")
        return found

    def waiting(self) -> list[Asked]:
        """Those that are to be answered, and those in force, as they were asked one after the other."""
        return self._sorted()[0]

    def _sorted(self) -> tuple[list[Asked], list[str]]:
        """Those of `waiting`, and the ids of files that are no request. Of one look into the folder: what arrives after
        it is of the next."""
        found, others = [], []
        for id_ in sorted(self._ids() - self._closed):
            answer = self._answer(id_)
            if answer and answer.verdict is not Verdict.TAKEN:
                self._closed.add(id_)
            elif asked := self._read(id_):
                found.append(asked)
            elif self._path(id_).exists():  # not taken back meanwhile
                others.append(id_)
        return found, others

    def _answer(self, id_: str) -> Answer | None:
        """One that cannot be read is as if there were none: what was asked is done once, whoever answers."""
        with suppress(DamagedFile):
            return self.answer(id_)
        return None

    def _read(self, id_: str) -> Asked | None:
        with suppress(DamagedFile):
            asked = read_json(self._path(id_), TypeAdapter(Asked))
            return asked if asked.id == id_ else None
        return None

    def history(self) -> list[str]:
        """`slots 3 by alice at …: done (…)` of each request, whatever came of it."""
        found = []
        for id_ in sorted(self._ids()):
            asked, answer = self._read(id_), self._answer(id_)
            if asked:
                came = f"{answer.verdict} ({answer.says})" if answer else "not answered yet"
                found.append(f"{asked.what}, {asked.by}: {came}")
        return found

    def _path(self, id_: str) -> Path:
        return self._folder / f"{id_}.json"

    def _ids(self) -> set[str]:
        """Hidden files are on their way to their names."""
        names = (path.name for path in self._folder.glob("[!.]*.json")) if self._folder.is_dir() else ()
        return {name.removesuffix(".json") for name in names if not name.endswith(ANSWER)}
