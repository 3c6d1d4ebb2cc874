"""A database of SQLAlchemy's that MLflow's records go to: its driver, and whether it answers. Knows no MLflow."""

import threading
from urllib.parse import urlsplit

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from toconv.errors import told
from toconv.redaction import redact
from toconv.tracking_address import DATABASES

# what pip calls the drivers of databases, where that is another name
DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
LOOK_SECONDS = 5.0  # that a database has for one login before work


def missing_package(address: str) -> str | None:
    """What SQLAlchemy lacks to use a database's address, if something does."""
    kind = urlsplit(address).scheme
    if kind.partition("+")[0] not in DATABASES:
        return None
    try:
        make_url(address).get_dialect().import_dbapi()
    except ImportError as error:
        return f"needs the package {error.name}: pip install {DRIVERS.get(error.name or '', error.name)}"
    except NoSuchModuleError:
        return f"{kind}:// names a driver that SQLAlchemy does not know; leave out +{kind.partition('+')[2]}"
    except (ArgumentError, ValueError) as error:
        return redact(told(error))
    return None


def silence(address: str) -> str | None:
    """Why a server's database does not let anybody in, by one login; None where it does, or is a file."""
    if urlsplit(address).scheme.partition("+")[0] not in {*DATABASES} - {"sqlite"}:
        return None
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(_refusal(address)), daemon=True, name="tracking-look")
    thread.start()
    thread.join(LOOK_SECONDS)
    return found[0] if found else f"no answer within {LOOK_SECONDS:.0f} s"


def _refusal(address: str) -> str | None:
    try:
        create_engine(address, poolclass=NullPool).connect().close()
    except Exception as error:  # SQLAlchemy's and the many drivers' own
        return redact(told(error.orig if isinstance(error, DBAPIError) and error.orig else error))
    return None
