"""`toconv sync`: deliver by hand what a tracking server missed of a sweep."""

from toconv.command_line import one_name
from toconv.errors import ExitCode, MachineryError
from toconv.paths import SweepPaths
from toconv.progress import console
from toconv.sweep.lock import only_driver
from toconv.sweep.recorded import recorded_sweep

USAGE = """
usage: toconv sync NAME

Delivers to MLflow (and W&B where the sweep uses it) what it missed of the sweep in outputs/NAME. Doing it again changes
nothing.
"""
SECONDS = 120.0  # without any delivery, then it gives up


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name, MachineryError where records could not be delivered."""
    from toconv.sweep.session import deliver, recorded_driver, start_tracking  # start-up: torch
    from toconv.tracking.tracker import check_access, say_store

    paths = SweepPaths.named(one_name(arguments, USAGE))
    sweep, _ = recorded_sweep(paths)
    check_access(sweep.base.experiment)
    say_store(sweep.base.experiment)
    with only_driver(paths):
        driver = recorded_driver(paths)
        tracker = start_tracking(driver)
        undelivered = deliver(driver, tracker, SECONDS)
        tracker.close("KILLED" if driver.left() else "FINISHED", driver.records(), paths.told())
        if undelivered:
            raise MachineryError(f"{undelivered} record(s) not delivered: {tracker.why()}")
        console.print(f"{sweep.file.name}: all {len(driver.records())} records are in MLflow")
    return ExitCode.DONE
