"""A process at work on a sweep: its driver, and tracking that begins and ends with it."""

import platform
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from toconv.analysis.records import Kind, TrialRecord
from toconv.analysis.results import read_results
from toconv.command_line import pasteable, typed
from toconv.config import flat
from toconv.errors import DamagedFile, RequestError
from toconv.paths import SweepPaths
from toconv.progress import console, phase
from toconv.redaction import redact
from toconv.settings import DataSettings
from toconv.sweep.baselines import recorded_baselines
from toconv.sweep.driver import Driver
from toconv.sweep.going_on import settle
from toconv.sweep.recorded import read_request, recorded_sweep
from toconv.sweep.request import grown
from toconv.sweep.search.glance import is_ledger, no_ledger
from toconv.sweep.search.ledger_place import Database, recorded_place
from toconv.tokens.images import sources
from toconv.tracking.delivery import BackgroundTracker
from toconv.tracking.provenance import git_commit, provenance
from toconv.tracking.tracker import trackers

# whose versions are recorded with a sweep
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "ray", "optuna", "mlflow", "hydra-core")
FLUSH_SECONDS = 30.0  # that the end of a sweep waits for the tracking server to take one more record


def recorded_driver(paths: SweepPaths) -> Driver:
    """The sweep in a folder as its ledger has it, with its baselines. Raises RequestError where there is none,
    DamagedFile where its ledger is gone or another one, MachineryError where that is so in a database."""
    sweep, fingerprint = recorded_sweep(paths)
    settle(paths, len(grown(paths)))
    place = recorded_place(paths)
    if not is_ledger(place, sweep.file.name):
        raise no_ledger(place, sweep.file.name)
    driver = Driver(sweep, paths, sweep.base.data.tokens_dir.resolve() / fingerprint, fingerprint, writes=False)
    if sweep.file.baselines:
        known = [r for r in _earlier_results(paths) if r.kind == Kind.BASELINE]  # measured by earlier code, perhaps
        known += recorded_baselines(sweep, driver.store, driver.ledger.trials())
        driver.baselines = list({(r.tokens, r.name): r for r in known}.values())
    return driver


def _earlier_results(paths: SweepPaths) -> list[TrialRecord]:
    """[] where the file is not there, or damaged: it is written anew."""
    try:
        return read_results(paths.results) if paths.results.exists() else []
    except (DamagedFile, RequestError):
        return []


def start_tracking(driver: Driver) -> BackgroundTracker:
    """MLflow beside the sweep. Every record of an earlier start is offered again, which mends what it missed."""
    file, place = driver.sweep.file, driver.ledger.place
    origin = provenance(file.name, driver.paths.root, driver.store)
    origin = replace(origin, sweep_id=read_request(driver.paths).get("id"))
    if isinstance(place, Database):
        origin = replace(origin, ledger=place.name, storage=redact(place.address))
    found = trackers(driver.sweep.base.experiment, origin)
    driver.tracker = BackgroundTracker(found, flat(file.model_dump(mode="json")))
    for record in driver.records():
        driver.tracker.submit(record)
    return driver.tracker


def deliver(driver: Driver, tracker: BackgroundTracker, seconds: float) -> int:
    """Deliver what is left and write results.csv; returns how many records could not be delivered."""
    with phase(lambda: f"delivering to MLflow: {tracker.waiting()} record(s) left"):
        undelivered = tracker.flush(seconds)
    driver.write_results(tracker.run_ids())
    return undelivered


def sync_command(name: str) -> str:
    """What delivers by hand; a name that begins with a hyphen is no option."""
    return pasteable(["toconv", "sync", *(["--"] if name.startswith("-") else []), name])


def stop_tracking(driver: Driver, tracker: BackgroundTracker, status: str) -> None:
    """Deliver what is left, end the parent run with the files that tell of the sweep."""
    undelivered = deliver(driver, tracker, FLUSH_SECONDS)
    if undelivered:
        console.print(
            f"MLflow: {undelivered} record(s) not delivered ({tracker.why()}); the next start of this "
            f"command delivers them, or {sync_command(driver.sweep.file.name)}"
        )
    with phase("closing the sweep's run in MLflow"):
        tracker.close(status, driver.records(), driver.paths.told())


def facts(data: DataSettings) -> dict[str, Any]:
    """Where the sweep runs, how it was started and with what: versions, machine, git commit, command, pictures."""
    return {
        "versions": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "git_commit": git_commit(),
        "command": typed(),
        "pictures": sources(data),
    }
