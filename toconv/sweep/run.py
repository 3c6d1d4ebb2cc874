"""Trials side by side on Ray Tune. The only module that knows Ray.

Tune schedules; it decides nothing that the ledger does not know. Its own checkpoints and restore
are not used: a trial's folder and the ledger hold all that a later start needs.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600", "TUNE_PRINT_ALL_TRIAL_ERRORS": "0", "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # Tune's actors have an environment of their own and never use those
}
os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})

import ray  # noqa: E402 - reads the environment when it is imported
from ray import tune  # noqa: E402
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from toconv.errors import MachineryError  # noqa: E402
from toconv.paths import write_atomic  # noqa: E402
from toconv.progress import console  # noqa: E402
from toconv.sweep.interrupt import Interrupt  # noqa: E402

if TYPE_CHECKING:  # a worker imports this module too, and needs neither the ledger nor a request
    from toconv.sweep.driver import Driver
    from toconv.sweep.search import Proposal
    from toconv.sweep.spec import Resources

WORKER_RETRIES = 2  # of a worker that died; a trial that failed is not run again
PROBE_SECONDS = 10.0
OBJECT_STORE_BYTES = 100 * 2**20  # nothing large goes through it: tokens are read by memory map


class RayTrial(tune.Trainable):
    """A trial as Tune sees it. Reused actors may be set up for a trial that they never run, so that the
    trial's folder is opened at its first step."""

    def setup(self, config: dict[str, Any]) -> None:
        self._request, self._trial = config["request"], None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        from toconv.sweep.trainable import Trial, TrialRequest, step

        if self._trial is None:
            self._trial = Trial(TrialRequest(**self._request))
            self._write_worker()
        outcome = step(self._trial)
        epoch = outcome["row"]["epoch"] if "row" in outcome else 0
        done = "row" not in outcome or outcome["complete"]
        distortion = outcome["row"]["metrics"]["distortion"] if "row" in outcome else float("inf")
        return {"outcome": json.dumps(outcome), "epoch": epoch, "distortion": distortion, "done": done}

    def _write_worker(self) -> None:
        facts = {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id(),
                 "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES")}
        write_atomic(self._trial.paths.worker, json.dumps(facts))

    def cleanup(self) -> None:
        if self._trial is not None:
            self._trial.close()
            self._trial = None


class LedgerSearcher(Searcher):
    """Tune's view of the ledger: hands out proposals, takes outcomes."""

    def __init__(self, driver: Driver, slots: int, on_idle: Callable[[], None]) -> None:
        """`on_idle` is called once, at the first epoch that ends after a slot found nothing left to begin."""
        super().__init__(metric=None, mode=None)
        self.driver, self.slots = driver, slots
        self._on_idle: Callable[[], None] | None = on_idle
        self._idle = False
        self.proposals: dict[str, Proposal] = {}  # by Tune's trial id
        self.stopped_early: set[str] = set()
        self.broken: str | None = None
        self.interrupt = Interrupt(self._say_interrupted)

    def _say_interrupted(self) -> None:
        if self.driver.open:
            console.print(f"interrupted: {len(self.driver.open)} running trial(s) end their epoch and save; "
                          "once more stops at once")

    def stopping(self) -> bool:
        """Whether nothing more is to begin, and what runs ends at its epoch."""
        return bool(self.interrupt.asked or self.broken or self.driver.budget_spent())

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles it for a restore that is not used

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.stopping():
            return Searcher.FINISHED
        if len(self.driver.open) >= self.slots:
            return None
        proposal = self.driver.next_proposal()
        if proposal is None:
            self._idle = True
            return Searcher.FINISHED if not self.driver.open else None
        self.proposals[trial_id] = proposal
        return {"request": asdict(self.driver.request(proposal))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.take(trial_id, result)

    def take(self, trial_id: str, result: dict[str, Any]) -> dict[str, Any]:
        """Tell the driver of an epoch; returns the worker's outcome."""
        outcome = json.loads(result["outcome"])
        if self._idle and self._on_idle:
            self._on_idle()
            self._on_idle = None
        if "row" in outcome:
            self.driver.progressed(self.proposals[trial_id], outcome["row"])
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
            self.driver.failed(proposal, outcome["failed"], outcome.get("infeasible", False))
        elif "machinery" in outcome:
            self.broken = outcome["machinery"]
            self.driver.released(proposal)
        elif outcome["complete"]:
            self.driver.completed(proposal)
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
        self._searcher, self._rungs = searcher, {}

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        asha = self._asha(self._searcher.proposals[trial.trial_id])
        if asha:
            asha.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if self._searcher.stopping():
            return TrialScheduler.STOP
        asha = self._asha(self._searcher.proposals[trial.trial_id])
        decision = asha.on_trial_result(tune_controller, trial, result) if asha else TrialScheduler.CONTINUE
        if decision == TrialScheduler.STOP:
            self._searcher.stopped_early.add(trial.trial_id)
        return decision

    def _asha(self, proposal: Proposal) -> ASHAScheduler | None:
        """The rungs of the proposal's cell; finalists are never stopped early."""
        rule, cell = self._searcher.driver.sweep.file.early_stopping, proposal.cell
        if rule is None or proposal.finalist_of:
            return None
        if cell not in self._rungs:
            epochs = self._searcher.driver.sweep.base.training.epochs
            self._rungs[cell] = ASHAScheduler(
                time_attr="epoch", metric="distortion", mode="min", max_t=max(epochs, rule.after_epochs + 1),
                grace_period=rule.after_epochs, reduction_factor=1 / rule.keep)
            self._replay(cell)
        return self._rungs[cell]

    def _replay(self, cell: str) -> None:
        """Fill the rungs with what trials of earlier starts reached."""
        from toconv.durable import read_rows
        from toconv.sweep.search import State

        driver, asha = self._searcher.driver, self._rungs[cell]
        for entry in driver.ledger.entries():
            searched = entry.proposal.cell == cell and not entry.proposal.finalist_of
            if searched and entry.state in {State.COMPLETE, State.PRUNED}:
                earlier = SimpleNamespace(trial_id=entry.proposal.trial_id)
                asha.on_trial_add(None, earlier)
                for row in read_rows(driver.paths.trial(entry.proposal.trial_id).metrics):
                    asha.on_trial_result(
                        None, earlier, {"epoch": row["epoch"], "distortion": row["metrics"]["distortion"]})


class Watch(tune.Stopper):
    """Stops nothing; calls `on_step` whenever Tune has done something.

    A stopper, since Tune counts callbacks by their kind, and imports every tracker that it knows to tell the kinds.
    """

    def __init__(self, on_step: Callable[[], None]) -> None:
        self._on_step = on_step

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._on_step()
        return False


class Cluster:
    """The Ray cluster that RAY_ADDRESS names, or one of our own for as long as it is needed.

    Starts as soon as it is made, beside whatever the driver does meanwhile.
    """

    def __init__(self) -> None:
        self._found = ray.is_initialized()
        self._error: Exception | None = None
        self._started, self._stopped = threading.Event(), threading.Event()
        threading.Thread(target=self._run, daemon=True, name="ray").start()

    def _run(self) -> None:
        """Ray's processes end with the thread that started them (PR_SET_PDEATHSIG), which therefore stays."""
        try:
            self._begin()
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            self._error = error
        finally:
            self._started.set()
        self._stopped.wait()

    def _begin(self) -> None:
        if not self._found:
            own = {} if os.environ.get("RAY_ADDRESS") else {
                "address": "local", "object_store_memory": OBJECT_STORE_BYTES}
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", **own)

    def resources(self) -> dict[str, float]:
        """What the cluster has, once it runs. Raises MachineryError where it did not start."""
        self._started.wait()
        if self._error:
            raise MachineryError(f"Ray did not start: {str(self._error).splitlines()[0]}") from self._error
        return ray.cluster_resources()

    def stop(self) -> None:
        """End a cluster of our own, leave any other."""
        self._started.wait()
        if not self._found:
            with suppress(ray.exceptions.RayError, ConnectionError, RuntimeError):  # of a cluster that is gone already
                ray.shutdown()
        self._stopped.set()


def in_use() -> dict[str, tuple[float, float]]:
    """{CPU, GPU: (how much of it trials hold, how much there is)} on the whole cluster."""
    total, free = ray.cluster_resources(), ray.available_resources()
    return {name: (total[name] - free.get(name, 0.0), total[name]) for name in ("CPU", "GPU") if name in total}


def usable(asked: Resources, present: dict[str, float]) -> tuple[Resources, int]:
    """A trial's resources on this cluster and how many trials it holds at once.

    Where there is no GPU, gpu counts as 0. Raises MachineryError where not one trial fits.
    """
    gpu = asked.gpu if present.get("GPU", 0) else 0.0
    slots = int(min(present.get("CPU", 0) // asked.cpu, present["GPU"] // gpu if gpu else float("inf")))
    if slots < 1:
        raise MachineryError(f"resources: a trial asks for cpu={asked.cpu}, gpu={asked.gpu}; the cluster has "
                             f"cpu={present.get('CPU', 0):g}, gpu={present.get('GPU', 0):g}")
    return asked.model_copy(update={"gpu": gpu}), slots


def run_trials(driver: Driver, resources: Resources, slots: int, on_step: Callable[[], None],
               on_idle: Callable[[], None]) -> None:
    """Run what the ledger still lacks; `on_idle` is called once a slot falls idle for good.

    Raises KeyboardInterrupt after SIGINT and SIGTERM, MachineryError where the machinery gave way; the ledger then
    holds what remains to be done.
    """
    searcher = LedgerSearcher(driver, slots, on_idle)
    trainable = tune.with_resources(RayTrial, {"cpu": resources.cpu, "gpu": resources.gpu})
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=searcher, scheduler=CellScheduler(searcher), num_samples=-1,
                                    reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(driver.paths.tune), verbose=0, stop=Watch(on_step),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=WORKER_RETRIES)))
    with searcher.interrupt.handling(lost_machinery):
        try:
            tuner.fit()
        except (tune.error.TuneError, ray.exceptions.RayError, ConnectionError) as error:
            what = lost_machinery() or f"Ray Tune gave way: {str(error).splitlines()[0]}"
            raise MachineryError(what) from error
    if searcher.broken:
        raise MachineryError(searcher.broken)
    if searcher.interrupt.asked:
        raise KeyboardInterrupt


def lost_machinery() -> str | None:
    """What of Ray no longer answers on this machine, if something does not: Ray itself may hang then, not raise."""
    node = ray._private.worker._global_node
    if node is None:
        return None
    host, _, port = node.gcs_address.rpartition(":")
    for name, family, address in (("raylet", socket.AF_UNIX, node.raylet_socket_name),
                                  ("GCS", socket.AF_INET, (host, int(port)))):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(address)
            except TimeoutError:
                continue  # slow is not gone
            except OSError as error:
                return f"Ray's {name} on this machine is gone ({error.strerror})"
    return None
