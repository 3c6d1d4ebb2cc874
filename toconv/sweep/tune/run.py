"""Trials side by side on Ray Tune, until the ledger lacks none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray import tune

from toconv.errors import MachineryError, first_line
from toconv.sweep.cluster import RAY_ERRORS, WORKER_RETRIES, MemoryRanOut, draining, kind_of, unreachable
from toconv.sweep.leaving import Leaving
from toconv.sweep.tune.scheduler import CellScheduler
from toconv.sweep.tune.searcher import LedgerSearcher
from toconv.sweep.tune.trial import RayTrial

if TYPE_CHECKING:
    from toconv.sweep.driver import Driver
    from toconv.sweep.evaluating import Evaluating
    from toconv.sweep.room import Room
    from toconv.sweep.schema import Resources
    from toconv.sweep.steering import Steering

# they tell, with a trace, of Tune's own state that is not written or copied, since a disk is full or since a file of it
# was renamed meanwhile: nobody reads that state
for name in ("ray.tune.tune", "ray.tune.execution.experiment_state", "ray.train._internal.storage"):
    logging.getLogger(name).setLevel(logging.CRITICAL)

POLL_SECONDS = 0.1
A_LITTLE = 0.001  # as Ray asks for of an accelerator's kind, of which a machine has 1


class Watch(tune.Stopper):
    """Stops nothing; calls `on_step` whenever Tune has done something. A stopper, since Tune counts callbacks by their
    kind, and imports every tracker that it knows to tell the kinds."""

    def __init__(self, on_step: Callable[[], None]) -> None:
        self._on_step = on_step

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._on_step()
        return False


def run_trials(
    driver: Driver,
    resources: Resources,
    steering: Steering,
    room: Room,
    evaluating: Evaluating,
    on_step: Callable[[], None],
    on_last: Callable[[], None],
) -> None:
    """Run what the ledger still lacks; `on_last` is called once the last trial is under way. Raises KeyboardInterrupt
    after SIGINT and SIGTERM, MachineryError where the machinery gave way; the ledger then holds what remains."""
    searcher = LedgerSearcher(driver, evaluating, on_last)
    leaving = Leaving(driver, draining)
    scheduler = CellScheduler(searcher, leaving)

    def fit(asked: Resources) -> None:
        _fit(_tuner(driver, asked, searcher, scheduler, step), searcher, steering)

    def step() -> None:
        leaving.poll(everybody=searcher.interrupt.soon)
        steering.poll()
        evaluating.poll()
        on_step()

    with searcher.interrupt.handling(unreachable):
        try:
            before, left = -1, -1
            while not searcher.stopping():
                if driver.can_begin() and driver.handed_out > before:
                    before = driver.handed_out
                    fit(resources)
                elif searcher.crowded:
                    _one_a_gpu(driver, resources, room, searcher, fit)
                elif evaluating.busy or driver.paused:
                    step()
                    time.sleep(POLL_SECONDS)
                elif driver.left() == left:
                    break
                else:  # somebody may have asked for more in the last moment
                    steering.poll(now=True)
                    before, left = -1, driver.left()
            evaluating.stop()
        except (tune.error.TuneError, *RAY_ERRORS) as error:
            raise MachineryError(unreachable() or f"Ray Tune gave way: {first_line(error)}") from error
    searcher.check_end()


def _fit(tuner: tune.Tuner, searcher: LedgerSearcher, steering: Steering) -> None:
    """Until nothing is to begin, or a machine's memory runs out: Tune then ends all workers."""
    try:
        tuner.fit()
    except RuntimeError as error:
        if not isinstance(error.__cause__, MemoryRanOut):
            raise
        steering.has_memory(searcher.give_back(error.__cause__))


def _one_a_gpu(
    driver: Driver, resources: Resources, room: Room, searcher: LedgerSearcher, fit: Callable[[Resources], None]
) -> None:
    """Run those whose memory ran out beside others, each with a GPU to itself: what fails there is infeasible."""
    whole = resources.model_copy(update={"gpu": 1.0})
    driver.begin_next(*searcher.crowded)
    searcher.crowded, driver.spent.gpu = [], whole.gpu
    try:
        with room.each_with(whole):
            fit(whole)
    finally:
        driver.spent.gpu = resources.gpu


def _tuner(
    driver: Driver,
    resources: Resources,
    searcher: LedgerSearcher,
    scheduler: CellScheduler,
    on_step: Callable[[], None],
) -> tune.Tuner:
    """Workers wait for their next trial, which holds what they have; where an evaluation may want that, they end."""
    kind = {kind_of(resources.accelerator): A_LITTLE} if resources.accelerator and resources.gpu else {}
    return tune.Tuner(
        tune.with_resources(RayTrial, {"cpu": resources.cpu, "gpu": resources.gpu, **kind}),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=driver.evaluations.asked is None
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(driver.paths.tune),
            verbose=0,
            stop=Watch(on_step),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES),
        ),
    )
