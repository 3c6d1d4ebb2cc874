"""The ledger as Optuna opens it where it is a file, and the many errors of SQLAlchemy and Optuna as one of ours."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import optuna

from toconv.errors import MachineryError, ToconvError, first_line
from toconv.paths import keep_private
from toconv.sweep.search.ledger_place import Database, LedgerPlace

LOCK_SECONDS = 120  # that a ledger which another process has locked is waited for
LOST = (
    "; where the file is damaged, put a copy of it back, or remove it: finished trials are then taken over from their "
    "folders and the rest is drawn again"
)
LOST_IN_DATABASE = (
    "; where its studies are damaged, put a copy of them back, or choose another name=, which takes over finished "
    "trials"
)
FORBIDDEN = ("42501", "25006")  # codes of PostgreSQL: no such right, a transaction that is read-only
T = TypeVar("T")


class Storage(Protocol):
    """Optuna's storage of a ledger."""

    @property
    def optuna(self) -> optuna.storages.BaseStorage: ...

    def tried(self, what: str, do: Callable[[bool], T]) -> T:
        """What `do` returns. It may be called again after an attempt of which nobody knows whether it was done, and is
        then told so (True). Raises MachineryError where the ledger cannot be read or written (`what`)."""

    def claim(self) -> None:
        """All studies are there: from now on this process alone writes them."""

    def close(self) -> None: ...


class FileStorage:
    """study.db, or a ledger in memory."""

    def __init__(self, path: Path | None) -> None:
        self.optuna: optuna.storages.BaseStorage = optuna.storages.InMemoryStorage()
        if path is not None:
            with ledger_errors("opened"):
                keep_private(path)
                self.optuna = optuna.storages.RDBStorage(
                    f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
                )

    def tried(self, what: str, do: Callable[[bool], T]) -> T:
        with ledger_errors(what):
            return do(False)

    def claim(self) -> None:
        """The lock of the sweep's folder does that."""

    def close(self) -> None:
        """Let go of the file, whose journal is empty then."""
        if isinstance(self.optuna, optuna.storages.RDBStorage):
            self.optuna.remove_session()
            self.optuna.engine.dispose()


@contextmanager
def ledger_errors(what: str, place: LedgerPlace | None = None) -> Iterator[None]:
    """SQLAlchemy's and Optuna's many errors as one of ours."""
    try:
        yield
    except ToconvError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        which, remedy = (place, LOST_IN_DATABASE) if isinstance(place, Database) else ("study.db", LOST)
        is_whole = what == "written" or sqlstate(cause) in FORBIDDEN
        raise MachineryError(
            f"the ledger ({which}) cannot be {what}: {first_line(cause)}{'' if is_whole else remedy}"
        ) from error


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code of an error, by either driver."""
    own = getattr(error, "orig", None)
    return getattr(own, "sqlstate", None) or getattr(own, "pgcode", None)
