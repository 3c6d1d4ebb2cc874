"""The ledger's database as Optuna opens it, and the many errors of SQLAlchemy and Optuna as one of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from toconv.errors import MachineryError, ToconvError, first_line
from toconv.paths import keep_private

LOCK_SECONDS = 120  # that a ledger which another process has locked is waited for
LOST = (
    "; where the file is damaged, put a copy of it back, or remove it: finished trials are then taken over from their "
    "folders and the rest is drawn again"
)


def storage(path: Path | None) -> optuna.storages.BaseStorage:
    if path is None:
        return optuna.storages.InMemoryStorage()
    with ledger_errors("opened"):
        keep_private(path)
        return optuna.storages.RDBStorage(
            f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
        )


def close(opened: optuna.storages.BaseStorage) -> None:
    """Let go of the file, whose journal is empty then."""
    if isinstance(opened, optuna.storages.RDBStorage):
        opened.remove_session()
        opened.engine.dispose()


@contextmanager
def ledger_errors(what: str) -> Iterator[None]:
    """SQLAlchemy's and Optuna's many errors as one of ours."""
    try:
        yield
    except ToconvError:
        raise
    except Exception as error:
        reason = first_line(error.__cause__ or error)
        raise MachineryError(
            f"the ledger (study.db) cannot be {what}: {reason}{LOST if what != 'written' else ''}"
        ) from error
