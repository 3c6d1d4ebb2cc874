"""Trials side by side on Ray Tune. The only module that knows Tune.

Tune schedules; it decides nothing that the ledger does not know. Its own checkpoints and restore are not used: a
trial's folder and the ledger hold all that a later start needs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from toconv.sweep.cluster import RAY_ERRORS, WORKER_RETRIES, node_id, unreachable  # isort: skip - sets the environment that Ray reads when it is imported

from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from toconv.analysis.records import State
from toconv.errors import MachineryError, first_line
from toconv.paths import write_atomic
from toconv.progress import console
from toconv.redaction import VARIABLES
from toconv.sweep.interrupt import Interrupt
from toconv.training.epochs import Epoch, read_epochs

if TYPE_CHECKING:  # a worker imports this module too, and needs neither the ledger nor a request
    from toconv.sweep.driver import Driver
    from toconv.sweep.evaluating import Evaluating
    from toconv.sweep.proposals import Proposal
    from toconv.sweep.schema import Resources
    from toconv.sweep.steering import Steering
    from toconv.sweep.trainable import RunningTrial

POLL_SECONDS = 0.1
ENV_VARS_TO_PROPAGATE.difference_update(VARIABLES)  # Tune sends these to workers, whose agent logs them; ours need none


class RayTrial(tune.Trainable):
    """A trial as Tune sees it. Reused actors may be set up for a trial that they never run, so that the
    trial's folder is opened at its first step."""

    def setup(self, config: dict[str, Any]) -> None:
        self._inputs: dict[str, Any] = config["inputs"]
        self._trial: RunningTrial | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        from toconv.sweep.trainable import RunningTrial, TrialInputs, step  # start-up: torch, in a worker

        if self._trial is None:
            self._trial = RunningTrial(TrialInputs(**self._inputs))
            self._write_worker(self._trial)
        outcome = step(self._trial)
        epoch = outcome["row"]["epoch"] if "row" in outcome else 0
        done = "row" not in outcome or outcome["complete"]
        distortion = outcome["row"]["metrics"]["distortion"] if "row" in outcome else float("inf")
        return {"outcome": json.dumps(outcome), "epoch": epoch, "distortion": distortion, "done": done}

    def _write_worker(self, trial: RunningTrial) -> None:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        facts = {"pid": os.getpid(), "node": node_id(), "CUDA_VISIBLE_DEVICES": gpus, "stated": trial.stated}
        write_atomic(trial.paths.worker, json.dumps(facts))

    def cleanup(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None


class LedgerSearcher(Searcher):
    """Tune's view of the ledger: hands out proposals, takes outcomes."""

    def __init__(self, driver: Driver, evaluating: Evaluating, on_last: Callable[[], None]) -> None:
        """`on_last` is called once, at the first epoch that ends after the last trial has begun."""
        super().__init__(metric=None, mode=None)
        self.driver, self._evaluating = driver, evaluating
        self._on_last: Callable[[], None] | None = on_last
        self._last_begun = False
        self.proposals: dict[str, Proposal] = {}  # by Tune's trial id
        self.stopped_early: set[str] = set()
        self.broken: str | None = None
        self.interrupt = Interrupt(self._say_interrupted)

    def _say_interrupted(self) -> None:
        if self.driver.open:
            console.print(
                f"interrupted: {len(self.driver.open)} running trial(s) end their epoch and save, evaluations stop; "
                "once more stops at once"
            )

    def stopping(self) -> bool:
        """Whether nothing more is to begin, and what runs ends at its epoch."""
        return bool(self.interrupt.asked or self.broken or self.driver.budget_spent())

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that is not used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # as its docstring has it
        if self.stopping():
            return Searcher.FINISHED
        self._evaluating.poll()
        proposal = None
        if len(self.driver.open) < self.driver.slots:
            proposal = self.driver.next_proposal()
            self._last_begun = self.driver.left() <= len(self.driver.open)
        if proposal is None:  # Tune, which holds workers while it waits, waits for trials alone
            return None if self.proposals else Searcher.FINISHED
        self.proposals[trial_id] = proposal
        return {"inputs": asdict(self.driver.inputs(proposal))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.take(trial_id, result)

    def take(self, trial_id: str, result: dict[str, Any]) -> dict[str, Any]:
        """Tell the driver of an epoch; returns the worker's outcome."""
        outcome = json.loads(result["outcome"])
        if self._last_begun and self._on_last:
            self._on_last()
            self._on_last = None
        if "row" in outcome:
            self.driver.progressed(self.proposals[trial_id], Epoch(**outcome["row"]))
        return outcome

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        proposal = self.proposals.pop(trial_id, None)
        if proposal is None:
            return
        if error or not result or "outcome" not in result:
            self.driver.failed(proposal, f"its worker died more than {WORKER_RETRIES} times")
            return
        self.proposals[trial_id] = proposal
        outcome = self.take(trial_id, result)
        del self.proposals[trial_id]
        if "failed" in outcome:
            self.driver.failed(
                proposal, outcome["failed"], outcome.get("infeasible", False), outcome.get("overdue", False)
            )
        elif "machinery" in outcome:
            self.broken = outcome["machinery"]
            self.driver.released(proposal)
        elif outcome["complete"]:
            self.driver.completed(proposal)
        elif proposal.trial_id in self.driver.ending:
            self.driver.end(proposal, self.driver.ending[proposal.trial_id])
        elif trial_id in self.stopped_early:
            self.driver.pruned(proposal)
        else:  # the budget is spent or Tune was told to stop: it goes on at the next start
            self.driver.released(proposal)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""


class CellScheduler(FIFOScheduler):
    """First come, first served, with successive halving (ASHA) on distortion within each cell."""

    def __init__(self, searcher: LedgerSearcher) -> None:
        super().__init__()
        self._searcher = searcher
        self._rungs: dict[str, ASHAScheduler] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        asha = self._asha(self._searcher.proposals[trial.trial_id])
        if asha:
            asha.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        proposal = self._searcher.proposals[trial.trial_id]
        if self._searcher.stopping() or proposal.trial_id in self._searcher.driver.ending:
            return TrialScheduler.STOP
        asha = self._asha(proposal)
        decision = asha.on_trial_result(tune_controller, trial, result) if asha else TrialScheduler.CONTINUE
        if decision == TrialScheduler.STOP:
            self._searcher.stopped_early.add(trial.trial_id)
        return decision

    def _asha(self, proposal: Proposal) -> ASHAScheduler | None:
        """The rungs of the proposal's cell; finalists and extensions are never stopped early."""
        rule, cell = self._searcher.driver.sweep.file.early_stopping, proposal.cell
        if rule is None or not proposal.is_searched:
            return None
        if cell not in self._rungs:
            epochs = self._searcher.driver.sweep.base.training.epochs
            self._rungs[cell] = ASHAScheduler(
                time_attr="epoch",
                metric="distortion",
                mode="min",
                max_t=max(epochs, rule.after_epochs + 1),
                grace_period=rule.after_epochs,
                reduction_factor=1 / rule.keep,
            )
            self._replay(cell)
        return self._rungs[cell]

    def _replay(self, cell: str) -> None:
        """Fill the rungs with what trials of earlier starts reached."""
        driver = self._searcher.driver
        asha: Any = self._rungs[cell]  # it reads a trial's id alone, and no controller
        for trial in driver.ledger.trials():
            searched = trial.is_searched(State.COMPLETE) or trial.is_searched(State.PRUNED)
            if searched and trial.proposal.cell == cell:
                earlier = SimpleNamespace(trial_id=trial.proposal.trial_id)
                asha.on_trial_add(None, earlier)
                for e in read_epochs(driver.paths.trial(trial.proposal.trial_id).metrics):
                    asha.on_trial_result(None, earlier, {"epoch": e.epoch, "distortion": e.metrics["distortion"]})


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
    evaluating: Evaluating,
    on_step: Callable[[], None],
    on_last: Callable[[], None],
) -> None:
    """Run what the ledger still lacks; `on_last` is called once the last trial is under way. Raises KeyboardInterrupt
    after SIGINT and SIGTERM, MachineryError where the machinery gave way; the ledger then holds what remains to be
    done."""
    searcher = LedgerSearcher(driver, evaluating, on_last)
    scheduler = CellScheduler(searcher)

    def step() -> None:
        steering.poll()
        evaluating.poll()
        on_step()

    with searcher.interrupt.handling(unreachable):
        try:
            before, left = -1, -1
            while not searcher.stopping():
                if driver.can_begin() and driver.handed_out > before:
                    before = driver.handed_out
                    _tuner(driver, resources, searcher, scheduler, step).fit()
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
            what = unreachable() or f"Ray Tune gave way: {first_line(error)}"
            raise MachineryError(what) from error
    if searcher.broken:
        raise MachineryError(searcher.broken)
    if searcher.interrupt.asked:
        raise KeyboardInterrupt


def _tuner(
    driver: Driver,
    resources: Resources,
    searcher: LedgerSearcher,
    scheduler: CellScheduler,
    on_step: Callable[[], None],
) -> tune.Tuner:
    """Workers wait for their next trial, which holds what they have; where an evaluation may want that, they end."""
    return tune.Tuner(
        tune.with_resources(RayTrial, {"cpu": resources.cpu, "gpu": resources.gpu}),
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
