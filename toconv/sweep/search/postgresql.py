"""PostgreSQL as a sweep reaches it, by SQLAlchemy and whichever driver is installed. Passwords are the driver's own
business: it reads PGPASSWORD, PGPASSFILE and service files itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from toconv.errors import MachineryError, RequestError, told
from toconv.redaction import redact
from toconv.sweep.search.ledger_place import Database

SETTING = "storage.study"
DRIVERS = {"psycopg": "psycopg", "psycopg2": "psycopg2"}  # SQLAlchemy's names, and their modules
INSTALL = "pip install 'toconv[postgresql]'"
OTHERS = 0o077  # of a file's mode
# of libpq, where an address says nothing else of them: a machine that is gone is noticed within half a minute
CONNECTING = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
    "application_name": "toconv",
}
BUSY = "another process runs this sweep; wait for it, or choose another name="
FATAL = "FATAL"  # what a server says to a login that it refuses; and what it says where it will take it later
FOR_NOW = ("starting up", "shutting down", "recovery", "too many", "remaining connection slots")
TABLE = "select to_regclass('trial_params')::text"  # the last one that is made
TRY_LOCK = "select pg_try_advisory_lock(:key)"
ROOM_FOR_TABLES = "select to_regclass('studies') is not null or has_schema_privilege(current_schema(), 'create')"


class Unreachable(Exception):
    """Nothing answers at the address, or not as it should."""


def url_of(address: str) -> URL:
    """With the driver that is there, where the address names none. Raises RequestError where none is, or where it is
    no address."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise RequestError(f"{SETTING}={redact(address)}: is no address of a database") from None
    _, _, named = url.drivername.partition("+")
    there = [name for name, module in DRIVERS.items() if find_spec(module)]
    if named not in ("", *there) or not there:
        raise RequestError(
            f"{SETTING}={redact(address)}: needs {named or 'a driver'}, which is not installed; {INSTALL}"
        )
    return url.set(drivername=f"postgresql+{named or there[0]}")


def connecting(url: URL) -> Callable[[], Any]:
    """What makes one connection of the driver's own."""
    dialect = url.get_dialect()
    words, named = dialect().create_connect_args(url)
    driver = dialect.import_dbapi()
    return lambda: driver.connect(*words, **{**CONNECTING, **named})


@contextmanager
def reading(place: Database) -> Iterator[Callable[[str], Iterator[tuple[Any, ...]]]]:
    """Yields what runs a query, in one transaction that writes nothing; `:own` is before the names of the ledger's
    studies. Nothing is found where the tables are still to be made. Raises MachineryError where the database does not
    answer."""
    url = url_of(place.address)
    engine = create_engine(url, creator=connecting(url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(text("set transaction isolation level repeatable read, read only"))
            if connection.execute(text(TABLE)).scalar() is None:
                yield lambda sql: iter(())
                return
            yield lambda sql: (tuple(row) for row in connection.execute(text(sql), {"own": f"{place.name}/"}))
    except DBAPIError as error:
        raise MachineryError(f"the ledger ({place}) cannot be read: {reason_of(error)}") from None


def check_database(address: str, begun: Database | None) -> None:
    """Raises RequestError where it is refused, where a driver has the ledger of a sweep that has `begun`, and where
    nothing answers; MachineryError where nothing answers to a sweep that has."""
    _check_service_files(address)
    url = url_of(address)
    engine = create_engine(url, creator=connecting(url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            if begun and not connection.execute(text(TRY_LOCK), {"key": lock_of(begun.own_name)}).scalar():
                raise RequestError(f"{begun}: {BUSY}")
            if not connection.execute(text(ROOM_FOR_TABLES)).scalar():
                raise RequestError(
                    f"{SETTING}={redact(address)}: may make no tables there; the database's owner says "
                    "grant create on schema public to that user"
                )
    except DBAPIError as error:
        reason = reason_of(error)
        refusal = f"{SETTING}={redact(address)}: cannot be opened ({reason}){_open_password_file()}"
        answered = FATAL in reason and not any(words in reason for words in FOR_NOW)
        raise (MachineryError if begun and not answered else RequestError)(refusal) from None


def _check_service_files(address: str) -> None:
    """libpq takes a password from a service file whoever may read it."""
    file = Path(os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf").expanduser()
    with suppress(OSError):
        if file.stat().st_mode & OTHERS and "password" in file.read_text(errors="replace"):
            raise RequestError(
                f"{SETTING}={redact(address)}: others can read {file}, which holds a password; run chmod 600 {file}"
            )


def _open_password_file() -> str:
    """libpq passes over a password file that others can read."""
    file = Path(os.environ.get("PGPASSFILE") or "~/.pgpass").expanduser()
    with suppress(OSError):
        if file.stat().st_mode & OTHERS:
            return f"; others can read {file}, which is not used for that; run chmod 600 {file}"
    return ""


def lock_of(name: str) -> int:
    """Of an advisory lock, a signed number of 64 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def lost(error: BaseException | None) -> BaseException | None:
    """What of an error, and of those that it came from, says that the connection is gone or cannot be had."""
    while error is not None:
        gone = isinstance(error, OperationalError | InterfaceError | Unreachable)
        if gone or (isinstance(error, DBAPIError) and error.connection_invalidated):
            return error
        error = error.__cause__ or error.__context__
    return None


def reason_of(error: BaseException) -> str:
    """In the driver's own words, without SQL, on one line."""
    own = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return redact(told(own))
