"""`run_sweep.py`: a request → tokens → baselines → trials → report."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from toconv.errors import ExitCode, RequestError
from toconv.paths import REPOSITORY, SweepPaths
from toconv.progress import console
from toconv.sweep.spec import Sweep, load_sweep


def sweep(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request before any work starts."""
    flags = [a for a in arguments if a.startswith("-")]
    words = [a.removeprefix("trial.") for a in arguments if not a.startswith("-")]
    unknown = [f"{flag}: no such option; --dry-run and --debug are there" for flag in flags
               if flag not in {"--dry-run", "--debug"}]
    if not words or "=" in words[0]:
        unknown.append("the first argument must be a sweep file, e.g. sweeps/grid_sizes.yaml")
    if unknown or len(set(flags)) > 1:
        raise RequestError(*unknown or ["--dry-run and --debug exclude each other"])
    asked = load_sweep(Path(words[0]), words[1:])
    paths = SweepPaths(Path("outputs").resolve() / asked.file.name)
    if "--dry-run" in flags:
        from toconv.sweep.plan import show_plan

        show_plan(asked, paths)
        return ExitCode.DONE
    if "--debug" in flags:
        return debug(asked, paths)
    with only_driver(paths):
        return run(asked, paths)


@contextmanager
def only_driver(paths: SweepPaths) -> Iterator[None]:
    """Keep a second driver out. Raises RequestError while the first one lives."""
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(f"{paths.root}: another process runs this sweep; wait for it, or choose another name=") from None
    try:
        yield
    finally:
        lock.release()


def run(asked: Sweep, paths: SweepPaths) -> ExitCode:
    from toconv.sweep.driver import Driver, record_request
    from toconv.sweep.search import planned_trials

    start = time.monotonic()
    from toconv.tokens.store import prepare_store

    tokens = prepare_store(asked.base)
    fingerprint = tokens.name
    record_request(asked, paths, fingerprint, facts())
    driver = Driver(asked, paths, tokens, fingerprint)
    cells = len(asked.cells())
    planned = planned_trials(asked.file, cells)
    if asked.file.baselines:
        from toconv.sweep.baseline_runs import baseline_records

        driver.baselines = baseline_records(asked, tokens)
    with tracking(driver):
        left = sum(driver.ledger.missing(cell.name) for cell in asked.cells()) + driver.adopted
        if left:
            console.print(f"{asked.file.name}: {planned} trials in {cells} cell(s); {planned - left} done, "
                          f"{driver.adopted} to go on with, {left - driver.adopted} to begin")
            _run_trials(driver, planned)
        else:
            console.print(f"{asked.file.name}: everything done already: {planned} trials; nothing encoded, "
                          "nothing trained")
    return finish(driver, time.monotonic() - start, bool(left))


def _run_trials(driver: Any, planned: int) -> None:
    from toconv.sweep.display import Display
    from toconv.sweep.run import cluster, run_trials, usable

    with cluster() as present:
        resources, slots = usable(driver.sweep.file.resources, present)
        if resources.gpu != driver.sweep.file.resources.gpu:
            console.print(f"no GPU on this machine: gpu: {driver.sweep.file.resources.gpu:g} counts as 0; "
                          "trials run on the CPU")
        console.print(f"{slots} trial(s) at a time, each with {resources.cpu:g} CPU and {resources.gpu:g} GPU")
        with Display(driver, planned, slots) as display:
            run_trials(driver, resources, slots, display.update)


@contextmanager
def tracking(driver: Any) -> Iterator[None]:
    """MLflow beside the sweep: every record of an earlier start is offered again, then live ones."""
    from toconv.sweep.tracking import BackgroundTracker, Tracker

    tracker = BackgroundTracker(Tracker(driver.sweep.base.experiment, driver.sweep.file.name))
    driver.tracker = tracker
    yield


def finish(driver: Any, seconds: float, ran: bool) -> ExitCode:
    raise NotImplementedError


def debug(asked: Sweep, paths: SweepPaths) -> ExitCode:
    """One trial of the sweep in this process: breakpoints and stack traces work."""
    from toconv.sweep.debug import run_one

    from toconv.tokens.store import prepare_store

    tokens = prepare_store(asked.base)
    return run_one(asked, paths, tokens, tokens.name)


def facts() -> dict[str, Any]:
    """Where the sweep runs: versions, machine, git commit."""
    from importlib.metadata import version

    libraries = ("torch", "torchvision", "open_clip_torch", "ray", "optuna", "mlflow", "hydra-core")
    git = subprocess.run(["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True)
    return {"versions": {name: version(name) for name in libraries}, "python": platform.python_version(),
            "machine": platform.platform(), "git_commit": git.stdout.strip() or None}
