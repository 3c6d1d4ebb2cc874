"""A sweep whose trials do not train: each ends at once as one before it did, a little better or worse."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toconv import checkpoint
from toconv.errors import RequestError
from toconv.paths import TrialPaths, link, write_atomic
from toconv.training.epochs import Epoch, read_epochs

if TYPE_CHECKING:
    from toconv.sweep.driver import Driver

SPREAD = 0.1  # of each measure, from trial to trial


def run_trials(
    driver: Driver,
    resources: object,
    steering: object,
    evaluating: object,
    on_step: Callable[[], None],
    on_last: Callable[[], None],
) -> None:
    """In place of `toconv.sweep.tune.run.run_trials`, with as many trials at a time. Raises RequestError where the
    sweep has none that trained."""
    ended = (TrialPaths(path.parent) for path in (driver.paths.root / "trials").glob("*/finished"))
    model = next((paths for paths in ended if paths.latest.exists()), None)
    if model is None:
        raise RequestError("a sweep is replayed from a trial that trained: there is none")
    epochs, state = read_epochs(model.metrics), checkpoint.load(model.latest)
    draw, running = random.Random(driver.left()), deque[Any]()
    while True:
        proposal = driver.next_proposal() if len(running) < driver.slots else None
        if proposal is not None:
            running.append(proposal)
        elif running:
            ending = running.popleft()
            _leave(driver, ending.trial_id, model, [_altered(epoch, draw) for epoch in epochs], state)
            for epoch in read_epochs(driver.paths.trial(ending.trial_id).metrics):
                driver.progressed(ending, epoch)
            driver.completed(ending)
            on_step()
        else:
            on_last()
            return


def _altered(epoch: Epoch, draw: random.Random) -> Epoch:
    return replace(epoch, metrics={name: value * draw.gauss(1, SPREAD) for name, value in epoch.metrics.items()})


def _leave(driver: Driver, trial_id: str, model: TrialPaths, epochs: list[Epoch], state: Mapping[str, Any]) -> None:
    """The files of a training with these epochs."""
    paths = driver.paths.trial(trial_id)
    write_atomic(paths.config, model.config.read_bytes())
    checkpoint.save(paths.latest, {**state, "epochs": [epoch.as_row() for epoch in epochs]})
    link(paths.latest, paths.best)
    write_atomic(paths.metrics, "".join(epoch.as_line() for epoch in epochs))
