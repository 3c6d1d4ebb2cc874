"""A ledger in PostgreSQL as its one driver holds it.

All that a driver says to the database goes through one connection, which holds the ledger's advisory lock: nothing is
written without the lock, and it is free once the connection is gone. A connection that was lost is made anew for a
bounded time, and only between two attempts of an operation, never within Optuna, which would enter a trial twice where
the answer to a COMMIT was lost. Whoever held the lock meanwhile has left its mark; a driver that finds another mark
than its own gives up."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, RLock, Thread
from typing import Any

import optuna
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from toconv.errors import MachineryError, RequestError, ToconvError
from toconv.progress import console, duration
from toconv.sweep.search.ledger_place import Database
from toconv.sweep.search.postgresql import BUSY, Unreachable, connecting, lock_of, lost, reason_of, url_of
from toconv.sweep.search.storage import T, ledger_errors

AWAY_SECONDS = 120.0  # that a database which does not answer is waited for
SILENT_SECONDS = 5.0  # after which a wait is told of
LET_GO_SECONDS = 5.0  # that the database has to see that a killed driver is gone
PAUSES = (0.1, 0.3, 1.0, 2.0)  # seconds between two attempts; the last one from then on
TABLES = "toconv: tables of Optuna's"  # the lock of whoever makes them
MARK = "toconv:driver"  # an attribute of a study, which tells its ledger's last driver
# the server notices as soon that a driver's machine is gone, and lets go of the lock
SESSION = (
    *("set tcp_keepalives_idle = 10", "set tcp_keepalives_interval = 5", "set tcp_keepalives_count = 3"),
    "set tcp_user_timeout = 30000",
)
OWN = "select study_id from studies where starts_with(study_name, {own})"
READ_MARKS = f"select value_json from study_user_attributes where key = %s and study_id in ({OWN.format(own='%s')})"
FORGET_MARKS = f"delete from study_user_attributes where key = :key and study_id in ({OWN.format(own=':own')})"
LEAVE_MARK = (
    "insert into study_user_attributes (study_id, key, value_json) "
    f"select min(study_id), :key, :mark from studies where study_id in ({OWN.format(own=':own')})"
)


class DatabaseStorage:
    """As `Storage`. One that does not write needs no lock, and waits for nothing."""

    def __init__(self, place: Database, writes: bool) -> None:
        """Raises RequestError where another driver has it."""
        self._place, self._writes = place, writes
        self._patience = AWAY_SECONDS if writes else 0.0
        self._mark, self._claimed = secrets.token_hex(8), False
        self._url = url_of(place.address)
        self._connect = connecting(self._url)
        self._raw: Any = None  # the driver's own connection
        self._may_connect = True  # within an operation there is no second connection
        self._given_up = False  # whether it was waited for as long as it is: how a command ends waits no more
        self._engine: Engine | None = None
        self._turn = RLock()  # of threads: there is one connection, and one operation knows whether it was lost
        self.optuna = self.tried("opened", lambda _: self._opened())
        self._engine, self._may_connect = self.optuna.engine, False

    def _opened(self) -> optuna.storages.RDBStorage:
        if not self._writes:
            return self._storage(creator=self._read_only, poolclass=NullPool)
        with self._alone_with_the_tables():
            first = {"creator": self._connect, "poolclass": NullPool}
            optuna.storages.RDBStorage(self._address, engine_kwargs=first).remove_session()
        return self._storage(creator=self._with_lock, pool_size=1, max_overflow=0)

    @property
    def _address(self) -> str:
        """For Optuna, which fills in braces."""
        return self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")

    def _storage(self, **engine: Any) -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(
            self._address, engine_kwargs=engine, skip_compatibility_check=True, skip_table_creation=True
        )

    @contextmanager
    def _alone_with_the_tables(self) -> Iterator[None]:
        """Two that make them at once would meet."""
        engine = create_engine(self._url, creator=self._connect, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": lock_of(TABLES)})
            yield

    def _read_only(self) -> Any:
        raw = self._connect()
        with raw.cursor() as cursor:
            cursor.execute("set default_transaction_read_only = on")
        raw.commit()
        return raw

    def _with_lock(self) -> Any:
        if not self._may_connect:
            raise Unreachable("its connection was lost")
        if self._raw is not None:
            self._raw.close()
        raw = self._connect()
        try:
            self._take_lock(raw)
        except BaseException:
            raw.close()
            raise
        self._raw = raw
        return raw

    def _take_lock(self, raw: Any) -> None:
        free, key, end = False, lock_of(self._place.own_name), time.monotonic() + LET_GO_SECONDS
        with raw.cursor() as cursor:
            for statement in SESSION:
                cursor.execute(statement)
            while not free and time.monotonic() < end:
                cursor.execute("select pg_try_advisory_lock(%s)", (key,))
                (free,) = cursor.fetchone()
                raw.commit()
                time.sleep(0 if free else PAUSES[0])
            if self._claimed:
                cursor.execute(READ_MARKS, (MARK, f"{self._place.name}/"))
                self._check_marks({row[0] for row in cursor.fetchall()})
                raw.commit()
        if not free and self._claimed:
            raise Unreachable("it still has the connection that was lost, and its lock")
        if not free:
            raise RequestError(f"{self._place}: {BUSY}")

    def _check_marks(self, found: set[str]) -> None:
        if found != {f'"{self._mark}"'}:
            raise MachineryError(
                f"the ledger ({self._place}) was taken over by another driver while this one could not reach it; let "
                "that one end"
            )

    def claim(self) -> None:
        if self._writes:
            self.tried("written", lambda _: self._leave_mark())
            self._claimed = True

    def _leave_mark(self) -> None:
        given = {"key": MARK, "own": f"{self._place.name}/"}
        with self.optuna.engine.begin() as connection:
            connection.execute(text(FORGET_MARKS), given)
            connection.execute(text(LEAVE_MARK), {**given, "mark": f'"{self._mark}"'})

    def tried(self, what: str, do: Callable[[bool], T]) -> T:
        """Raises MachineryError after AWAY_SECONDS without an answer."""
        with self._turn, ledger_errors(what, self._place):
            try:
                return self._done(what, do)
            except KeyboardInterrupt:
                self._patience, self._given_up = 0.0, True  # how the command ends waits no more
                raise

    def _done(self, what: str, do: Callable[[bool], T]) -> T:
        began, attempts = time.monotonic(), 0
        while True:
            try:
                with self._watched(began, attempts):
                    if attempts or self._given_up:
                        self._find_connection()
                    found = do(attempts > 0)
            except Exception as error:
                self._wait(error, what, began, attempts)
                attempts += 1
                continue
            self._given_up = False
            if attempts:
                console.print(f"the ledger answers again, after {duration(time.monotonic() - began)}")
            return found

    def _wait(self, error: Exception, what: str, began: float, attempts: int) -> None:
        """Until the next attempt. Raises where another one would not help."""
        cause = None if isinstance(error, ToconvError) else lost(error)
        if cause is None:
            raise error
        if self._given_up or time.monotonic() - began >= self._patience:
            self._given_up = True
            waited = f", also after {duration(self._patience)}" if self._patience else ""
            raise MachineryError(f"the ledger ({self._place}) cannot be {what}{waited}: {reason_of(cause)}") from error
        if not attempts:
            console.print(
                f"the ledger ({self._place}) does not answer ({reason_of(cause)}); it is tried for "
                f"{duration(self._patience)}, and running trials go on"
            )
        time.sleep(PAUSES[min(attempts, len(PAUSES) - 1)])

    def _find_connection(self) -> None:
        """The one that there is, where it lives, or a new one."""
        if self._engine is None:  # it is opened still
            return
        self._may_connect = True
        try:
            with self._engine.connect() as connection:
                connection.execute(text("select 1"))
        finally:
            self._may_connect = False

    @contextmanager
    def _watched(self, began: float, attempts: int) -> Iterator[None]:
        """A server that stands still answers nothing and closes nothing: after AWAY_SECONDS its connection is shut."""
        done = Event()
        if self._writes:
            Thread(target=self._watch, args=(done, began, attempts), daemon=True, name="ledger").start()
        try:
            yield
        finally:
            done.set()

    def _watch(self, done: Event, began: float, attempts: int) -> None:
        if done.wait(SILENT_SECONDS):
            return
        if not attempts:
            console.print(f"the ledger ({self._place}) has not answered for {SILENT_SECONDS:.0f} s; it is waited for")
        if not done.wait(max(0.0, began + self._patience - time.monotonic())):
            with suppress(Exception), socket.socket(fileno=os.dup(self._raw.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.optuna.remove_session()
        self.optuna.engine.dispose()


def drop(place: Database) -> None:
    """All studies of a ledger that nothing asks for any more."""
    opened = DatabaseStorage(place, writes=True)
    try:
        there = opened.tried("read", lambda _: opened.optuna.get_all_studies())
        for name in (study.study_name for study in there if study.study_name.startswith(f"{place.name}/")):
            with ledger_errors("written", place):
                opened.optuna.delete_study(opened.optuna.get_study_id_from_name(name))
    finally:
        opened.close()
