"""A sweep of this checkout whose driver's parts are timed: `python -m benchmarks.timed_sweep FOUND.json WORDS`. With
BENCH_REPLAYED in the environment its trials do not train, but end as one of an earlier start did; with BENCH_GPUS it
joins a Ray cluster of this machine with so many logical GPUs."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

Clock = Callable[[], float]
PROPOSAL, ENTERING, EPOCH, MLFLOW = "proposal", "entering", "epoch", "mlflow"
REPLAYED, GPUS = "BENCH_REPLAYED", "BENCH_GPUS"
TRIALS, DRIVER, REPORT, RESULTS = "trials", "driver", "report", "results"


class Times:
    """Seconds of each call, by part."""

    def __init__(self) -> None:
        self.found: defaultdict[str, list[float]] = defaultdict(list)

    def of(
        self, holder: object, name: str, clocks: dict[str, Clock], counts: Callable[[Any], bool] = lambda found: True
    ) -> None:
        """Have a function of a module or class tell what it takes, by each of the clocks: of each call that raises, or
        whose result counts."""
        work = getattr(holder, name)

        @functools.wraps(work)
        def timed(*arguments: Any, **named: Any) -> Any:
            start, is_of_note = {part: clock() for part, clock in clocks.items()}, True
            try:
                found = work(*arguments, **named)
                is_of_note = counts(found)
                return found
            finally:
                for part, clock in clocks.items() if is_of_note else ():
                    self.found[part].append(clock() - start[part])

        setattr(holder, name, timed)


def main(words: list[str]) -> int:
    import ray

    from benchmarks import replayed
    from toconv.__main__ import main as toconv
    from toconv.report import write
    from toconv.sweep.driver import Driver
    from toconv.sweep.search.ledger import Ledger
    from toconv.sweep.tune import run
    from toconv.tracking.mlflow_runs import MlflowTracker

    times, wall = Times(), time.perf_counter
    times.of(Ledger, "propose", {PROPOSAL: wall}, counts=lambda proposal: proposal is not None)
    times.of(Driver, "completed", {ENTERING: wall})
    times.of(Driver, "progressed", {EPOCH: wall})
    times.of(MlflowTracker, "sync", {MLFLOW: wall})
    if REPLAYED in os.environ:
        run.run_trials = replayed.run_trials
    times.of(run, "run_trials", {TRIALS: wall, DRIVER: time.process_time})
    times.of(write, "write_report", {REPORT: wall})
    times.of(Driver, "write_results", {RESULTS: wall})
    if GPUS in os.environ:
        ray.init("local", num_gpus=int(os.environ[GPUS]), include_dashboard=False, log_to_driver=False)
    try:
        return toconv(["sweep", *words[1:]])
    finally:
        Path(words[0]).write_text(json.dumps(times.found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
