"""Where a sweep's ledger lies: study.db of its folder, or studies of a PostgreSQL database. Needs neither library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from toconv.paths import SweepPaths
from toconv.redaction import redact
from toconv.state_files import read_yaml

GENERATION = "."  # between a ledger's own name and how often it was written anew; no sweep's name has one
FIRST_TABLE, LAST_TABLE = "studies", "trial_values"  # of Optuna's, which are made one after the other


@dataclass(frozen=True)
class Database:
    """Studies of a PostgreSQL database, which holds those of others too."""

    address: str  # without a password
    name: str  # of the ledger: its studies are called `<name>/<cell>`

    def __str__(self) -> str:
        return f"{redact(self.address)} ({self.name})"

    @property
    def own_name(self) -> str:
        """The same however often it was written anew."""
        return self.name.partition(GENERATION)[0]

    @property
    def growths(self) -> int:
        """Of so many sweep.yaml told when it was written."""
        return int(self.name.partition(GENERATION)[2] or 0)

    def grown(self, growths: int) -> Database:
        """The ledger as it is to be once sweep.yaml tells of so many growths."""
        return Database(self.address, f"{self.own_name}{GENERATION}{growths}")


LedgerPlace = Path | Database


class OfRequest(BaseModel, extra="ignore"):
    """What sweep.yaml tells of the ledger; that of an earlier version nothing."""

    ledger: Database | None = None


OF_REQUEST = TypeAdapter(OfRequest)


def recorded_place(paths: SweepPaths) -> LedgerPlace:
    """Where the ledger of the sweep in a folder lies; the file, where sweep.yaml tells of no database. Raises
    DamagedFile where that cannot be read."""
    if paths.study.exists() or not paths.request.exists():
        return paths.study
    return read_yaml(paths.request, OF_REQUEST).ledger or paths.study
