"""Places where records are kept beside a sweep's own folder, and which of them a request asks for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toconv.analysis.records import TrialRecord
from toconv.command_line import pasteable
from toconv.errors import RequestError
from toconv.progress import console
from toconv.redaction import redact, secret_of
from toconv.settings import ExperimentSettings, named_object
from toconv.tracking.provenance import Provenance
from toconv.tracking_address import VARIABLE, Store, foreign_database, is_server, store_in_use

MLFLOW = "toconv.tracking.mlflow_runs:MlflowTracker"
UI = "http://127.0.0.1:5000"  # where `mlflow ui` serves
# {setting of experiment/: module and class}; MLflow always
TRACKERS = {"use_wandb": "toconv.tracking.wandb_runs:WandbTracker"}


class Tracker(ABC):
    """What is resumable lies in a trial's folder; a tracker copies it. Every call may come again after an interruption,
    and changes nothing then. It may raise what its library raises: the sweep goes on, and offers the record again."""

    def __init__(self, settings: ExperimentSettings, provenance: Provenance) -> None:
        self.settings, self.provenance = settings, provenance

    @classmethod
    def check_store(cls, store: Store) -> None:
        """Raises RequestError where MLflow's store could never be used."""

    @classmethod
    def silence(cls, store: Store) -> str | None:
        """Why MLflow's store does not answer now, where one look says so."""
        return None

    @classmethod
    def check_access(cls) -> None:
        """Raises RequestError, before any work, where it could not be used at all."""

    def open(self, params: Mapping[str, Any]) -> None:
        """Begin with the sweep that `params` describe."""

    @abstractmethod
    def sync(self, record: TrialRecord) -> None:
        """Bring what is kept of the record up to date."""

    def run_ids(self) -> dict[str, str]:
        """{trial_id: the id of its run}, for the column mlflow_run_id."""
        return {}

    def page(self) -> str:
        """The sweep's page below the address of MLflow's pages; empty where there is none."""
        return ""

    def close(self, status: str, records: Sequence[TrialRecord], files: Mapping[str, Path]) -> None:
        """End (FINISHED, FAILED or KILLED) with what the sweep found and its files."""


def asked_for(settings: ExperimentSettings) -> list[type[Tracker]]:
    """MLflow, and those whose setting is true."""
    return [_class_of(path) for path in (MLFLOW, *_extra(settings))]


def _extra(settings: ExperimentSettings) -> list[str]:
    return [path for setting, path in TRACKERS.items() if getattr(settings, setting)]


def _class_of(path: str) -> type[Tracker]:
    found: type[Tracker] = named_object(path)
    return found


def say_store(settings: ExperimentSettings) -> None:
    """Which store MLflow's records go to, once `check_access` has taken it; and where it is a database that does not
    answer, which like a server that does not costs the work nothing."""
    store = store_in_use(settings.tracking_uri)
    console.print(f"MLflow: {redact(store.address)} ({store.said_by})")
    if not store.is_default and (why := _class_of(MLFLOW).silence(store)):
        console.print(f"MLflow's database does not answer ({why}); records wait until it does")


def how_to_look(settings: ExperimentSettings, page: str = "") -> str:
    """The command, or the page, that shows the records; `page` is a sweep's own, as `Tracker.page` has it."""
    store = store_in_use(settings.tracking_uri)
    if is_server(store.address):
        return redact(f"{store.address.rstrip('/')}/{page}" if page else store.address)
    if secret_of(store.address):
        command = f'MLFLOW_BACKEND_STORE_URI="${VARIABLE}" mlflow ui'
    else:
        words = [] if store.is_default else ["--backend-store-uri", store.address]
        command = pasteable(["mlflow", "ui", *words])
    return command + (f", then {UI}/{page}" if page else "")


def check_access(settings: ExperimentSettings) -> None:
    """Raises RequestError before any work where a tracker could not be used at all."""
    store = store_in_use(settings.tracking_uri)
    if mistake := foreign_database(store.address):
        raise RequestError(f"MLflow's store ({store.said_by}): {mistake}")
    if not store.is_default:
        _class_of(MLFLOW).check_store(store)
    for path in _extra(settings):
        _class_of(path).check_access()


def trackers(settings: ExperimentSettings, provenance: Provenance) -> list[Tracker]:
    """Of one sweep, or of a training without one."""
    return [tracker(settings, provenance) for tracker in asked_for(settings)]
