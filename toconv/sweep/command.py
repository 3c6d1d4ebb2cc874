"""`run_sweep.py`: a request → tokens → baselines → trials → report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from filelock import FileLock, Timeout

from toconv.command_line import same_command
from toconv.errors import ExitCode, RequestError
from toconv.paths import SweepPaths
from toconv.progress import console, duration
from toconv.sweep.spec import Sweep, load_sweep

FLUSH_SECONDS = 30.0  # that the end of a sweep waits for the tracking server to take one more record


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
    with only_driver(paths), ray_ahead(paths) as cluster:
        return run(asked, paths, cluster)


@contextmanager
def only_driver(paths: SweepPaths) -> Iterator[None]:
    """Keep a second driver out. Raises RequestError while the first one lives."""
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RequestError(
            f"{paths.root}: another process runs this sweep; wait for it, or choose another name=") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def ray_ahead(paths: SweepPaths) -> Iterator[Callable[[], Any]]:
    """Yields what gives the sweep's Ray cluster. It starts beside the imports and checks that come before trials;
    where a report says that there may be nothing left to run, it starts when it is asked for."""
    found: list[Any] = []

    def cluster() -> Any:
        if not found:
            from toconv.sweep.cluster import Cluster

            found.append(Cluster())
        return found[0]

    try:
        if not paths.report.exists():
            cluster()
        yield cluster
    finally:
        for started in found:
            started.stop()


def run(asked: Sweep, paths: SweepPaths, cluster: Callable[[], Any]) -> ExitCode:
    from toconv.hardware import keep_freed_memory
    from toconv.sweep.driver import Driver, record_request
    from toconv.sweep.tracking import check_access
    from toconv.tokens.store import prepare_store

    start = time.monotonic()
    check_access(asked.base.experiment)
    keep_freed_memory()
    tokens = prepare_store(asked.base)
    fingerprint = tokens.name
    record_request(asked, paths, fingerprint, facts())
    driver = Driver(asked, paths, tokens, fingerprint)
    if asked.file.baselines:
        from toconv.sweep.baseline_runs import baseline_records

        driver.baselines = baseline_records(asked, tokens)
    planned, left = driver.planned(), driver.left()
    start_tracking(driver)
    try:
        if left:
            console.print(f"{asked.file.name}: {planned} trials in {len(asked.cells())} cell(s); "
                          f"{planned - left} done, {driver.adopted} to go on with, {left - driver.adopted} to begin")
            _run_trials(driver, cluster())
        else:
            console.print(f"{asked.file.name}: everything is done already, all {planned} trials; nothing trained now")
        report(driver)
    except BaseException:
        stop_tracking(driver, "KILLED")
        export_front(driver)
        raise
    return finish(driver, time.monotonic() - start)


def _run_trials(driver: Any, cluster: Any) -> None:
    from toconv.sweep.cluster import in_use, usable
    from toconv.sweep.display import Display
    from toconv.sweep.pulse import Pulse
    from toconv.sweep.run import run_trials

    resources, slots = usable(driver.sweep.file.resources, cluster.resources())
    driver.spent.gpu = resources.gpu
    if resources.gpu != driver.sweep.file.resources.gpu:
        console.print(f"no GPU on this machine: gpu: {driver.sweep.file.resources.gpu:g} counts as 0; "
                      "trials run on the CPU")
    console.print(f"{slots} trial(s) at a time, each with {resources.cpu:g} CPU and {resources.gpu:g} GPU")
    with Pulse(in_use) as pulse, Display(driver, slots, pulse) as display:
        run_trials(driver, resources, slots, display.update, lambda: import_report(driver.sweep.base.encoder))


def start_tracking(driver: Any) -> None:
    """MLflow beside the sweep. Every record of an earlier start is offered again, which mends what it missed."""
    from toconv.config import flat
    from toconv.sweep.delivery import BackgroundTracker
    from toconv.sweep.origin import origin
    from toconv.sweep.tracking import Tracker

    file = driver.sweep.file
    tracker = Tracker(driver.sweep.base.experiment, origin(file.name, driver.paths.root, driver.tokens))
    driver.tracker = BackgroundTracker(tracker, flat(file.model_dump(mode="json")))
    for record in driver.records():
        driver.tracker.submit(record)


def deliver(driver: Any, seconds: float) -> int:
    """Deliver what is left and write results.csv; returns how many records could not be delivered."""
    undelivered = driver.tracker.flush(seconds)
    driver.write_results(driver.tracker.run_ids())
    return undelivered


def stop_tracking(driver: Any, status: str) -> None:
    """Deliver what is left, end the parent run with the files that tell of the sweep."""
    undelivered = deliver(driver, FLUSH_SECONDS)
    if undelivered:
        console.print(f"MLflow: {undelivered} record(s) not delivered ({driver.tracker.error}); the next start of this "
                      f"command delivers them, or python -m toconv.sweep.sync {driver.sweep.file.name}")
    driver.tracker.close(status, driver.records(), driver.paths.told())


def export_front(driver: Any) -> None:
    """The recommended compressors, ready to use (`toconv.sweep.winners`)."""
    from toconv.sweep.winners import export_front

    export_front(driver)


def import_report(encoder: Any) -> None:
    """Import what `report` needs, seconds of one core, in a thread of its own while the last trials run."""
    def work() -> None:
        with suppress(Exception):  # whatever is missing, the report meets it again and says so
            import toconv.sweep.figures
            import toconv.sweep.page.write
            import toconv.sweep.winners  # noqa: F401
            from toconv.export import encoder_facts
            from toconv.sweep.search import import_fanova

            import_fanova()
            encoder_facts(encoder)

    Thread(target=work, daemon=True, name="import").start()


def report(driver: Any) -> None:
    """report.html and its figures, before tracking ends, which takes them along."""
    from toconv.sweep.figures import write_figures
    from toconv.sweep.page.content import gather
    from toconv.sweep.page.write import write_report

    content = gather(driver, facts(), same_command().removeprefix("to go on: "),
                     lambda record: debug_command(driver, record.params))
    write_figures(driver.paths.figures, content)
    write_report(driver.paths.report, content)


def finish(driver: Any, seconds: float) -> ExitCode:
    """results.csv, the front, where to look next, and what the exit code says."""
    from toconv.sweep.finalists import finalists_table
    from toconv.sweep.report import against, front_table

    spent = driver.budget_spent() if driver.left() else None
    driver.spent.save()
    records = driver.records()
    failed = [r for r in records if r.state == "failed"]
    unfinished = [r for r in records if r.state == "running"]
    stop_tracking(driver, "FINISHED")
    console.print(front_table(records, driver.sweep.file.objectives))
    tested = finalists_table(records)
    if tested:
        console.print(tested)
    for line in against(records, "pool") + against(records, "pca"):
        console.print(line)
    for record in failed:
        console.print(f"failed: {record.name}: {record.reason}\n  to debug: {debug_command(driver, record.params)}")
    console.print(f"done in {duration(seconds)}: {sum(r.state == 'complete' for r in records if r.kind == 'trial')} "
                  f"complete, {sum(r.state == 'pruned' for r in records)} pruned, {len(failed)} failed")
    if driver.taken_over:
        console.print(f"{driver.taken_over} of them had been finished already, here or in another sweep of this folder")
    if spent:
        console.print(f"stopped by the budget ({spent}; spent {driver.spent.hours:.3f} h, {driver.spent.gpu_hours:.3f} "
                      f"GPU-h), {len(unfinished)} trial(s) unfinished; raise it {same_command()}")
    export_front(driver)
    console.print(f"figures and what was learnt: {driver.paths.report} (for a paper: {driver.paths.figures})\n"
                  f"all rows: {driver.paths.results}\ncurves, parameters, checkpoints: mlflow ui")
    return ExitCode.TRIALS_FAILED if failed else ExitCode.DONE


def debug_command(driver: Any, params: Mapping[str, Any]) -> str:
    fixed = " ".join(f"trial.{key}={value}" for key, value in params.items())
    return f"{same_command().removeprefix('to go on: ')} --debug {fixed}"


def debug(asked: Sweep, paths: SweepPaths) -> ExitCode:
    """One trial of the sweep in this process: breakpoints and stack traces work."""
    from toconv.sweep.debug import run_one
    from toconv.tokens.store import prepare_store

    tokens = prepare_store(asked.base)
    return run_one(asked, paths, tokens, tokens.name)


def facts() -> dict[str, Any]:
    """Where the sweep runs: versions, machine, git commit."""
    from importlib.metadata import version

    from toconv.sweep.origin import git_commit

    libraries = ("torch", "torchvision", "open_clip_torch", "ray", "optuna", "mlflow", "hydra-core")
    return {"versions": {name: version(name) for name in libraries}, "python": platform.python_version(),
            "machine": platform.platform(), "git_commit": git_commit()}
