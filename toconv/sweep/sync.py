"""`python -m toconv.sweep.sync NAME`: deliver by hand what a tracking server missed of the sweep in outputs/NAME."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from toconv.command_line import run, same_command
from toconv.errors import ExitCode, MachineryError, RequestError
from toconv.paths import SweepPaths
from toconv.settings import Settings
from toconv.sweep.spec import Sweep, SweepFile

if TYPE_CHECKING:
    from toconv.sweep.driver import Driver

USAGE = """python -m toconv.sweep.sync NAME
Delivers to MLflow (and W&B where the sweep uses it) what it missed of the sweep in outputs/NAME. Doing it again
changes nothing."""
SECONDS = 120.0  # without any delivery, then it gives up


def recorded_sweep(paths: SweepPaths) -> tuple[Sweep, str]:
    """The request that sweep.yaml holds, and the fingerprint of its tokens. Raises RequestError where there is none."""
    if not paths.request.exists():
        raise RequestError(f"{paths.root}: holds no sweep (no {paths.request.name}); name one of outputs/")
    found = yaml.safe_load(paths.request.read_text())
    file, base = SweepFile.model_validate(found["request"]), Settings.model_validate(found["base"])
    return Sweep(file, found["overrides"], base), found["definition"]["tokens"]


def recorded_driver(paths: SweepPaths) -> Driver:
    """The sweep in a folder as its ledger has it, with its baselines. Raises as `recorded_sweep` does."""
    sweep, fingerprint = recorded_sweep(paths)
    from toconv.findings import read_results
    from toconv.sweep.baseline_runs import recorded_baselines
    from toconv.sweep.driver import Driver

    driver = Driver(sweep, paths, sweep.base.data.tokens_dir.resolve() / fingerprint, fingerprint)
    if sweep.file.baselines:
        earlier = read_results(paths.results) if paths.results.exists() else []  # measured by earlier code, perhaps
        known = [r for r in earlier if r.kind == "baseline"] + recorded_baselines(sweep, driver.tokens)
        driver.baselines = list({(r.tokens, r.name): r for r in known}.values())
    return driver


def sync(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name, MachineryError where records could not be delivered."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise RequestError(f"give the name of one sweep\n{USAGE}")
    paths = SweepPaths(Path("outputs").resolve() / arguments[0])
    sweep, _ = recorded_sweep(paths)
    from toconv.progress import console
    from toconv.sweep.command import deliver, only_driver, start_tracking
    from toconv.sweep.tracking import check_access

    check_access(sweep.base.experiment)
    with only_driver(paths):
        driver = recorded_driver(paths)
        start_tracking(driver)
        undelivered = deliver(driver, SECONDS)
        driver.tracker.close("KILLED" if driver.left() else "FINISHED", driver.records(), paths.told())
        if undelivered:
            raise MachineryError(f"{undelivered} record(s) not delivered: {driver.tracker.error}")
        console.print(f"{sweep.file.name}: all {len(driver.records())} records are in MLflow")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(run(sync, USAGE, same_command))
