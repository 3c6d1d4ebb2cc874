"""`toconv sweep`: a request → tokens → baselines → trials → report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from toconv.errors import ExitCode
from toconv.object_store import ObjectStore
from toconv.own_files import check_sweep_folder
from toconv.paths import SweepPaths, TrialPaths
from toconv.progress import console, phase
from toconv.report.refreshing import Refreshing
from toconv.sweep.file import Sweep, load_sweep
from toconv.sweep.fits import Machines, has_gpus, usable, without_gpu
from toconv.sweep.lock import only_driver
from toconv.sweep.notify import Event, Notifier, check_notify
from toconv.sweep.preflight import check_evaluation, check_folders, check_ledger, check_ray
from toconv.sweep.ray_address import by_client, name_cluster
from toconv.sweep.ray_ahead import ray_ahead
from toconv.sweep.running import Announcement
from toconv.sweep.words import understood

if TYPE_CHECKING:
    from toconv.sweep.cluster import Cluster, Task
    from toconv.sweep.driver import Driver
    from toconv.sweep.own_measure import OwnMeasure
    from toconv.sweep.room import Room
    from toconv.sweep.search.earlier import Learnt
    from toconv.sweep.terminal.display import Display
    from toconv.tracking.delivery import BackgroundTracker

USAGE = """
usage: python run_sweep.py SWEEP.yaml [key=value ...] [--dry-run | --debug [trial.key=value ...]]
       toconv sweep SWEEP.yaml …

  key=value    a setting of conf/ (training.epochs=4, data=folder) or a key of the sweep file
               (name=mine, trials=8, budget.hours=2); a setting that the file enumerates or
               searches is fixed to that value
  --dry-run    check everything; print cells, trials, shapes, disk and time to expect; start nothing
  --debug      one trial of the sweep in this process, without Ray, Optuna's ledger or MLflow

Run the same command again to go on where it stopped.
Exit codes: 0 done, 2 wrong request, 3 done with failed trials, 4 the machinery gave way, 130 interrupted.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request before any work starts."""
    flags, file, texts = understood(arguments)
    asked = load_sweep(file, texts)
    name_cluster(asked.file.cluster.address)
    if not flags and (address := by_client()):
        from toconv.sweep.ray_client import run_there  # start-up: Ray

        return run_there(address, arguments)
    paths = SweepPaths.named(asked.file.name)
    check_sweep_folder(paths)
    check_folders(asked, paths)
    check_evaluation(asked.file.evaluation)
    check_notify(asked.file.notify)
    if "--debug" in flags:
        return _debug(asked, paths)
    ledger = check_ledger(asked, paths)
    check_ray()
    if "--dry-run" in flags or asked.file.storage.study:
        console.print(ledger)
    if "--dry-run" in flags:
        from toconv.sweep.plan import show_plan  # start-up: torch

        show_plan(asked, paths)
        return ExitCode.DONE
    with (
        only_driver(paths),
        Notifier(asked.file.notify, paths) as notifier,
        Announcement(paths, asked.base.training.epochs) as announcement,
        ray_ahead(paths, asked.file.cluster.listen) as cluster,
    ):
        return _run(asked, paths, cluster, announcement, notifier)


def _debug(asked: Sweep, paths: SweepPaths) -> ExitCode:
    """One trial of the sweep in this process: breakpoints and stack traces work. Its own evaluation is tried on it."""
    from toconv.export.own_evaluation import try_out  # start-up: torch
    from toconv.sweep.debug import run_one
    from toconv.tokens.encoding import prepare_store

    trial = run_one(asked, paths, prepare_store(asked.base))
    if asked.file.evaluation:
        try_out(trial, asked.file.evaluation)
    return ExitCode.DONE


def _run(
    asked: Sweep, paths: SweepPaths, cluster: Callable[[], Cluster], announcement: Announcement, notifier: Notifier
) -> ExitCode:
    from toconv.hardware import keep_freed_memory  # start-up: torch
    from toconv.sweep.baselines import baseline_records
    from toconv.sweep.encoding_tasks import before_encoding, smaller_tasks
    from toconv.sweep.plan import check_trials_room
    from toconv.sweep.search.earlier import learn
    from toconv.sweep.session import start_tracking, stop_tracking
    from toconv.tokens.encoding import prepare_store
    from toconv.tokens.remote import send_derived
    from toconv.tracking.tracker import check_access, say_store

    start = time.monotonic()
    check_access(asked.base.experiment)
    say_store(asked.base.experiment)
    check_trials_room(asked, paths)
    keep_freed_memory()
    learnt = learn(asked, paths.root.parent)
    store = prepare_store(asked.base, partial(before_encoding, asked, paths, cluster, announcement))
    driver = _opened(asked, paths, store, learnt, announcement)
    driver.on_first_failure = lambda name, why: notifier.send(Event.FIRST_FAILURE, f"{name}: {why}")
    if asked.file.baselines:
        encoding = partial(smaller_tasks, asked, store, cluster)
        driver.baselines = baseline_records(asked, store, driver.ledger.trials(), encoding)
        if remote := ObjectStore.asked(asked.base.store):
            send_derived(remote, store)  # what other machines need not compute again
    tracker = start_tracking(driver)
    try:
        _run_trials(driver, cluster, announcement)
        _report(driver)
    except BaseException:
        stop_tracking(driver, tracker, "KILLED")
        _recommend(driver)
        raise
    code = _finish(driver, tracker, time.monotonic() - start)
    spent = driver.budget_spent() if driver.left() else None
    notifier.send(Event.BUDGET if spent else Event.ENDED, spent or "")
    return code


def _opened(asked: Sweep, paths: SweepPaths, store: Path, learnt: Learnt, announcement: Announcement) -> Driver:
    """The sweep in its folder, begun or gone on with."""
    from toconv.sweep.driver import Driver  # start-up: torch
    from toconv.sweep.going_on import go_on
    from toconv.sweep.session import facts
    from toconv.sweep.terminal.changes import show_changes

    show_changes(*go_on(asked, paths, store.name, facts(asked.base.data)))
    announcement.tell(epochs_of=asked.epochs_of_cells())
    driver = Driver(asked, paths, store, store.name)
    driver.ledger.learn(learnt.trials)
    for line in learnt.told:
        console.print(line)
    return driver


def _run_trials(driver: Driver, cluster: Callable[[], Cluster], announcement: Announcement) -> None:
    from toconv.sweep.evaluating import Evaluating  # start-up: torch
    from toconv.sweep.steering import Steering

    file, steering = driver.sweep.file, Steering(driver)
    steering.poll(now=True)  # what was asked while nothing ran
    planned, left = driver.planned(), driver.left()
    announcement.tell(planned=planned, left=left)
    if not left:
        steering.close()
        console.print(f"{file.name}: everything is done already, all {planned} trials; nothing trained now")
        return
    from toconv.sweep.cluster import in_use, resources_here  # start-up: Ray
    from toconv.sweep.nodes import check_nodes
    from toconv.sweep.room import Room
    from toconv.sweep.terminal.display import Display
    from toconv.sweep.terminal.utilization import Utilization
    from toconv.sweep.tune.run import run_trials

    console.print(
        f"{file.name}: {planned} trials in {len(driver.sweep.cells())} cell(s); {planned - left} ended, "
        f"{driver.adopted} to go on with, {left - driver.adopted} to begin"
    )
    machines = cluster().machines(file.resources.accelerator)
    everywhere = check_nodes(driver.sweep, [driver.store, driver.paths.root])
    resources, slots = usable(file.resources, machines)
    steering.has_room(slots)
    driver.spent.gpu = resources.gpu
    if resources.gpu != file.resources.gpu:
        console.print(without_gpu(file.resources.gpu))
    console.print(f"{driver.slots} trial(s) at a time, each with {resources.cpu:g} CPU and {resources.gpu:g} GPU")
    evaluator = _evaluator(file.evaluation, machines if everywhere else [resources_here()], here=not everywhere)
    evaluating = Evaluating(driver, evaluator)
    with (
        Utilization(in_use) as utilization,
        phase("trials run"),
        Refreshing(driver.paths.root) as refreshing,
        Display(driver, utilization) as display,
    ):
        room = Room(file.resources, cluster(), steering)
        step = _each_step(driver, announcement, display, refreshing, room)
        run_trials(driver, resources, steering, room, evaluating, step, lambda: import_report(file.trials))
    announcement.tell(**_facts(driver))
    if not driver.left():
        steering.close()


def _each_step(
    driver: Driver, announcement: Announcement, display: Display, refreshing: Refreshing, room: Room
) -> Callable[[], None]:
    earlier = sum(trial.ended for trial in driver.ledger.trials())

    def step() -> None:
        room.look()
        display.update()
        announcement.tell_at_times(lambda: _facts(driver))
        refreshing.poll(earlier + driver.handed_out - len(driver.open))

    return step


def _facts(driver: Driver) -> dict[str, int | bool]:
    """What of a sweep changes while it runs, for running.json."""
    return {
        "planned": driver.planned(),
        "left": driver.left(),
        "slots": driver.slots,
        "paused": driver.paused is not None,
    }


def _evaluator(asked: OwnMeasure | None, machines: Machines, here: bool) -> Callable[[TrialPaths], Task]:
    """What has a trial evaluated with the GPUs that there are: on the cluster, or `here`, where alone its folder is."""
    from toconv.sweep.cluster import Task  # start-up: Ray

    gpu = asked.gpu if asked and has_gpus(machines) else 0.0
    if asked:
        console.print(
            f"evaluation of {asked.on}: {asked.asked}; with {gpu:g} GPU, at most {asked.timeout_minutes:g} minutes each"
            + (", all of them on this machine" if here else "")
        )

    def begin(paths: TrialPaths) -> Task:
        from toconv.export.own_evaluation import evaluate  # start-up: safetensors, the Hub's client

        return Task(evaluate, (paths, asked, Path.cwd()), gpu, here)

    return begin


def import_report(trials: int) -> None:
    """Import what the report needs, seconds of one core, in a thread of its own while the last trials run."""

    def work() -> None:
        with suppress(Exception):  # whatever is missing, the report meets it again and says so
            import toconv.export.recommended  # start-up: matplotlib, scikit-learn
            import toconv.report.write  # noqa: F401
            from toconv.sweep.search.importances import import_fanova

            import_fanova(trials)

    Thread(target=work, daemon=True, name="import").start()


def _report(driver: Driver) -> None:
    """report.html and its figures, before tracking ends, which takes them along."""
    from toconv.report.write import write_report  # start-up: matplotlib, beside the last trials
    from toconv.sweep.session import facts

    with phase("writing the report"):
        write_report(driver, facts(driver.sweep.base.data))


def _recommend(driver: Driver) -> None:
    from toconv.export.recommended import export_recommended  # start-up: beside the last trials

    with phase("exporting the recommended compressors"):
        export_recommended(driver)


def _finish(driver: Driver, tracker: BackgroundTracker, seconds: float) -> ExitCode:
    """results.csv, the best, where to look next, and what the exit code says."""
    from toconv.sweep.session import stop_tracking  # start-up: SciPy, beside the last trials
    from toconv.sweep.terminal.ending import failures, say_what_ended, say_where_to_look, unevaluated
    from toconv.sweep.terminal.tables import show_results

    driver.spent.save()
    records = driver.records()
    stop_tracking(driver, tracker, "FINISHED")
    show_results(records, driver.sweep.file.objectives)
    say_what_ended(driver, records, seconds)
    _recommend(driver)
    say_where_to_look(driver, tracker.page())
    return ExitCode.TRIALS_FAILED if failures(records) or unevaluated(records) else ExitCode.DONE
