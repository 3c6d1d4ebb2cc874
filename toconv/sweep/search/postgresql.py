"""PostgreSQL as a sweep reaches it, by SQLAlchemy and whichever driver is installed. Passwords are the driver's own
business: it reads PGPASSWORD, PGPASSFILE and service files itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from toconv.errors import MachineryError, RequestError, first_line, told
from toconv.paths import others_can_read
from toconv.redaction import redact
from toconv.sweep.search.ledger_place import LAST_TABLE, Database
from toconv.tracking_address import Store

SETTING = "storage.study"
# SQLAlchemy's names, which are those of their modules, and what of each reads a connection string as libpq does
DRIVERS = {"psycopg": ("conninfo", "conninfo_to_dict"), "psycopg2": ("extensions", "parse_dsn")}
INSTALL = "pip install 'toconv[postgresql]'"
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
TABLE = f"select to_regclass('{LAST_TABLE}')::text"
TRY_LOCK = "select pg_try_advisory_lock(:key)"
WRITES = """
select coalesce(bool_and(case relkind when 'S' then has_sequence_privilege(pg_class.oid, 'usage')
                                      else has_table_privilege(pg_class.oid, privilege) end), true)
from pg_class, unnest(array['select', 'insert', 'update', 'delete']) privilege
where relnamespace = (select relnamespace from pg_class where oid = to_regclass('studies'))
  and relkind in ('r', 'S') and (starts_with(relname, 'stud') or starts_with(relname, 'trial'))
"""
FEW_CONNECTIONS = """
select exists (select from pg_roles where rolname = current_user and not rolsuper and rolconnlimit between 0 and 2)
    or exists (select from pg_database where datname = current_database() and datconnlimit between 0 and 2)
"""
NEEDED = {  # of a ledger's database: what holds there, and what is said where it does not
    "select not current_setting('transaction_read_only')::bool": "takes no writes: it is read-only, or a standby",
    "select to_regclass('version_info') is not null or to_regclass('alembic_version') is null": (
        "holds another program's tables (alembic_version, without Optuna's version_info); choose a database, or a "
        "schema, of its own"
    ),
    "select to_regclass('studies') is not null or has_schema_privilege(current_schema(), 'create')": (
        "may make no tables there; the database's owner says grant create on schema public to that user"
    ),
    WRITES: (
        "may not write Optuna's tables there; their owner says grant select, insert, update, delete on all tables in "
        "schema public to that user, and grant usage on all sequences in schema public"
    ),
    f"select not ({FEW_CONNECTIONS})": "may have too few connections: a ledger is opened with three, and held with one",
}
# a schema of a database of a server, whatever its addresses are; and whether it has tables that are not MLflow's
WHERE = (
    "select pg_postmaster_start_time()::text, oid, current_schema() from pg_database where datname = current_database()"
)
NOT_MLFLOWS = "select to_regclass('alembic_version') is not null and to_regclass('experiments') is null"


class Unreachable(Exception):
    """Nothing answers at the address, or not as it should."""


def url_of(address: str, setting: str = SETTING) -> URL:
    """With the driver that is there, where the address names none. Raises RequestError where none is, or where it is
    no address; `setting` is whose it is."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise RequestError(f"{setting}={redact(address)}: is no address of a database") from None
    _, _, named = url.drivername.partition("+")
    there = [name for name in DRIVERS if find_spec(name)]
    if named not in ("", *there) or not there:
        raise RequestError(
            f"{setting}={redact(address)}: needs {named or 'a driver'}, which is not installed; {INSTALL}"
        )
    url = url.set(drivername=f"postgresql+{named or there[0]}")
    _check_parameters(f"{setting}={address}", url, *DRIVERS[named or there[0]])
    return url


def _check_parameters(asked: str, url: URL, module: str, reads: str) -> None:
    """Drivers take more than libpq does, which would be another connection than ours. Raises RequestError."""
    dialect = url.get_dialect()
    driver = dialect.import_dbapi()
    _, named = dialect().create_connect_args(url)
    read = getattr(import_module(f"{driver.__name__}.{module}"), reads)
    try:
        read(" ".join(f"{name}=''" for name in named))
    except driver.Error as error:
        raise RequestError(f"{redact(asked)}: takes libpq's parameters alone ({redact(first_line(error))})") from None


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
    try:
        with _engine(place.address).connect() as connection:
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
    check_service_files(f"{SETTING}={address}")
    try:
        with _engine(address).connect() as connection:
            if begun and not connection.execute(text(TRY_LOCK), {"key": lock_of(begun.own_name)}).scalar():
                raise RequestError(f"{begun}: {BUSY}")
            for holds, otherwise in NEEDED.items():
                if not connection.execute(text(holds)).scalar():
                    raise RequestError(f"{SETTING}={redact(address)}: {otherwise}")
    except DBAPIError as error:
        reason = reason_of(error)
        refusal = f"{SETTING}={redact(address)}: cannot be opened ({reason}){_open_password_file()}"
        answered = FATAL in reason and not any(words in reason for words in FOR_NOW)
        raise (MachineryError if begun and not answered else RequestError)(refusal) from None


def check_apart(address: str, tracking: Store) -> None:
    """Raises RequestError where MLflow's records would lie among the tables of a ledger, or of something else: each
    keeps the version of its tables in alembic_version. Nothing where a database does not answer."""
    try:
        records = _engine(tracking.address)
    except RequestError:  # of another driver, which MLflow may know
        return
    try:
        with records.connect() as connection:
            foreign, theirs = connection.execute(text(NOT_MLFLOWS)).scalar(), connection.execute(text(WHERE)).one()
        if foreign:
            raise RequestError(
                f"{tracking.said_by}={redact(tracking.address)}: holds another program's tables (alembic_version, "
                "without MLflow's experiments); choose a database, or a schema, of its own"
            )
        with _engine(address).connect() as connection:
            ours = connection.execute(text(WHERE)).one()
    except DBAPIError:  # whoever opens it says so
        return
    if ours == theirs:
        raise RequestError(
            f"{SETTING}={redact(address)}: is where {tracking.said_by} has MLflow's records; Optuna and MLflow "
            "need a database, or a schema, each, since both keep the version of their tables in alembic_version"
        )


def _engine(address: str) -> Engine:
    url = url_of(address)
    return create_engine(url, creator=connecting(url), poolclass=NullPool)


def check_service_files(asked: str) -> None:
    """libpq takes a password from a service file whoever may read it. Raises RequestError for what is `asked`, a
    setting and its value, where others can."""
    folder = os.environ.get("PGSYSCONFDIR")
    found = [
        os.environ.get("PGSERVICEFILE") or "~/.pg_service.conf",
        *([f"{folder}/pg_service.conf"] if folder else []),
    ]
    for file in (Path(name).expanduser() for name in found):
        with suppress(OSError):
            if others_can_read(file) and "password" in file.read_text(errors="replace"):
                raise RequestError(
                    f"{redact(asked)}: others can read {file}, which holds a password; run chmod 600 {file}"
                )


def _open_password_file() -> str:
    """libpq passes over a password file that others can read."""
    file = Path(os.environ.get("PGPASSFILE") or "~/.pgpass").expanduser()
    if others_can_read(file):
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
