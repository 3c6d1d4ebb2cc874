"""Where MLflow's store is, and which one is in use; what its address, and that of a ledger, may be. Knows no MLflow."""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

VARIABLE, FILE_STORE = "MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"  # MLflow's own, in the environment
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
LIBPQ = "postgres"  # its other name of postgresql, which SQLAlchemy knows no more
MLFLOW_TABLES = {"alembic_version", "experiments", "runs"}
PLUGINS = "mlflow.tracking_store"  # entry points of packages that bring stores of their own
KNOWN = (*DATABASES, *SERVERS, "databricks")
# of a SQLite address: parameters that ask for a database in memory, values of uri= that are a yes, and what may stand
# before a path that is one of SQLite's own addresses then
IN_MEMORY, YES, OWN = {("mode", "memory"), ("vfs", "memdb")}, {"true", "yes", "on", "y", "t", "1"}, "file:(//[^/]*)?"


class Store(NamedTuple):
    """MLflow's store of a command."""

    address: str
    said_by: str  # what chose it, for people
    is_default: bool


def store_in_use(setting: str | None) -> Store:
    """`experiment.tracking_uri`, or what the environment names, or mlflow.db of the working directory, which
    `mlflow ui` shows there by itself."""
    if setting:
        return Store(setting, "experiment.tracking_uri", False)
    if named := os.environ.get(VARIABLE):
        return Store(named, VARIABLE, False)
    return Store(f"sqlite:///{Path('mlflow.db').resolve()}", "the default", True)


def address_mistake(address: str) -> str | None:
    """Why MLflow could never use it, if so. Says no more of it than its kind: it may hold a password."""
    try:
        parts = urlsplit(address)
        kind, host, _ = parts.scheme.partition("+")[0].lower(), parts.hostname, parts.port
    except ValueError:
        return "is no address: its host or port cannot be read"
    if not address.startswith(parts.scheme):
        return f"must begin with {parts.scheme}: in small letters"
    if kind in SERVERS and not host:
        return f"names no server; write {kind}://HOST:PORT"
    if kind in DATABASES and ("://" not in address or (kind == "sqlite" and parts.netloc)):
        place = "sqlite:///FILE" if kind == "sqlite" else f"{kind}://USER@HOST/NAME"
        return f"is no address of a database; write {place}"
    if kind == "sqlite" and database_file(address) is None:
        return "is a database in memory, gone with the process; write sqlite:///FILE"
    if kind in ("", "file") and address != "databricks":
        if os.environ.get(FILE_STORE, "").lower() in {"true", "1"}:
            return None
        return f"is a folder, which MLflow takes no more; write sqlite:///FILE, or set {FILE_STORE}=true"
    if kind == LIBPQ:
        return "postgres:// is no kind that MLflow knows; write postgresql://USER@HOST/NAME"
    if kind not in ("", *KNOWN) and kind not in _of_plugins():
        return f"{kind}:// is of no kind that MLflow knows; it knows {', '.join(f'{name}://' for name in KNOWN)}"
    return None


def _of_plugins() -> Iterator[str]:
    return (plugin.name for plugin in entry_points(group=PLUGINS))


def database_address(address: str) -> str:
    """As it is. Raises ValueError where it is none of PostgreSQL's, which a ledger can lie in."""
    scheme, found, _ = address.partition("://")
    kind = scheme.partition("+")[0]
    if kind != "postgresql" or not found:
        instead = ", not postgres://" if kind == LIBPQ else ""
        raise ValueError(f"must be postgresql://USER@HOST/NAME{instead}, or null for study.db in the sweep's folder")
    return address


def is_server(address: str) -> bool:
    return address.lower().startswith(tuple(f"{kind}://" for kind in SERVERS))


def foreign_database(address: str) -> str | None:
    """Why the file of a SQLite address is none of MLflow's, if so. Changes nothing."""
    file = database_file(address)
    if file is None or not file.exists() or (file.is_file() and file.stat().st_size == 0):
        return None
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            tables = {row[0] for row in database.execute("select name from sqlite_master where type = 'table'")}
    except sqlite3.OperationalError:  # locked, or not to be opened: its user says so
        return None if file.is_file() else f"{file}: is no file"
    except sqlite3.Error:
        return f"{file}: is no SQLite file; choose another one"
    if tables and not tables >= MLFLOW_TABLES:
        return f"{file}: is a database of something else than MLflow; choose another one"
    return None


def database_file(address: str) -> Path | None:
    """The file of a SQLite address, where it is one on this disk: as SQLAlchemy reads it and, where it says uri=true,
    SQLite reads once more what that hands over."""
    kind, _, rest = address.partition(":///")
    path, _, query = rest.partition("?")
    path, given = unquote(path), parse_qsl(query)
    if kind.partition("+")[0] != "sqlite" or IN_MEMORY & {*parse_qsl("&".join(map("=".join, given)))}:
        return None
    if any(key == "uri" and value.strip().lower() in YES for key, value in given):
        path = unquote(re.sub(OWN, "", path.partition("#")[0]))
    return Path(path) if path not in ("", ":memory:") else None
