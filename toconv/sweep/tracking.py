"""Trials in MLflow, and in W&B where that is asked for. The only module that knows either.

What is durable lies in a trial's folder; tracking copies it. Every delivery is idempotent: a run is
found by its tag, and rows that are there already are left out, so that the same record may be offered
again after any interruption. A tracking server that is slow or gone costs the sweep nothing.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toconv.durable import read_rows
from toconv.errors import RequestError
from toconv.paths import REPOSITORY, TrialPaths, link
from toconv.settings import ExperimentSettings
from toconv.sweep.records import TrialRecord

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PARENT, HASH, SWEEP = "mlflow.parentRunId", "trial.hash", "toconv.sweep"
LONGEST_VALUE, BATCH = 500, 900  # characters of a param; metrics in one call (MLflow's limits are 6000, 1000)


def redact(text: str) -> str:
    """Hide the password of any URI in the text."""
    return re.sub(r"(://[^/:@\s]+):[^@\s]+@", r"\1:***@", text)


class Tracker:
    """One sweep in MLflow: a parent run with a child run for each record; no parent where `sweep` is empty."""

    def __init__(self, settings: ExperimentSettings, sweep: str) -> None:
        self._settings, self.sweep = settings, sweep
        self.uri = settings.tracking_uri or f"sqlite:///{REPOSITORY / 'mlflow.db'}"
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[str, str] = {}  # run ids by trial_id
        self._ended: set[tuple[str, str]] = set()  # (trial_id, state) delivered whole
        self._wandb = Wandb(settings, sweep) if settings.use_wandb else None

    def open(self, params: Mapping[str, Any]) -> None:
        """Find or make the experiment and the sweep's parent run."""
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self._client = MlflowClient(self.uri)
        name = self._settings.name
        found = self._client.get_experiment_by_name(name)
        artifacts = None if self._settings.tracking_uri else (REPOSITORY / "mlruns" / name).as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(name, artifacts)
        if self.sweep:
            self._open_parent(params)

    def _open_parent(self, params: Mapping[str, Any]) -> None:
        found = self._search(f"tags.`{SWEEP}` = '{self.sweep}' and tags.`toconv.kind` = 'sweep'")
        if found:
            self._parent = found[0].info.run_id
            self._client.update_run(self._parent, "RUNNING")
            for run in self._search(f"tags.`{PARENT}` = '{self._parent}'"):
                self._runs[run.data.tags[HASH]] = run.info.run_id
            return
        run = self._client.create_run(
            self._experiment, run_name=self.sweep, tags={SWEEP: self.sweep, "toconv.kind": "sweep"})
        self._parent = run.info.run_id
        self._log_params(self._parent, params)

    def _search(self, query: str) -> list[Any]:
        runs, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def sync(self, record: TrialRecord) -> str:
        """Bring the record's run up to date; returns its id. Doing it again changes nothing."""
        if self._client is None:
            self.open({})
        run_id = self._runs.get(record.trial_id) or self._create(record)
        self._runs[record.trial_id] = run_id
        if (record.trial_id, record.state) in self._ended:
            return run_id
        self._ship_metrics(run_id, record)
        if record.state != "running":
            self._end(run_id, record)
            self._ended.add((record.trial_id, record.state))
        if self._wandb:
            self._wandb.sync(record)
        return run_id

    def _create(self, record: TrialRecord) -> str:
        tags = {HASH: record.trial_id, "kind": record.kind, "cell": record.cell, "tokens": str(record.tokens),
                "state": record.state, **({PARENT: self._parent, SWEEP: self.sweep} if self._parent else {})}
        run_id = self._client.create_run(self._experiment, run_name=record.name, tags=tags).info.run_id
        self._log_params(run_id, record.params)
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        values = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in params.items()]
        for start in range(0, len(values), 100):
            self._client.log_batch(run_id, params=values[start:start + 100])

    def _ship_metrics(self, run_id: str, record: TrialRecord) -> None:
        from mlflow.entities import Metric

        if record.folder is None:
            rows = [{"epoch": 0, "timestamp": 0, "metrics": record.values}]
        else:
            rows = read_rows(TrialPaths(record.folder).metrics)
        there = self._last_step(run_id)
        metrics: list[Metric] = []
        for row in (row for row in rows if row["epoch"] > there):
            epoch = [Metric(key, value, row["timestamp"], row["epoch"]) for key, value in row["metrics"].items()]
            if len(metrics) + len(epoch) > BATCH:
                self._client.log_batch(run_id, metrics=metrics)
                metrics = []
            metrics += epoch
        if metrics:
            self._client.log_batch(run_id, metrics=metrics)

    def _last_step(self, run_id: str) -> int:
        """The last epoch that has arrived; an epoch goes in one call, and arrives whole or not at all."""
        return max((m.step for m in self._client.get_metric_history(run_id, "distortion")), default=-1)

    def _end(self, run_id: str, record: TrialRecord) -> None:
        self._client.set_tag(run_id, "state", record.state)
        if record.reason:
            self._client.set_tag(run_id, "reason", record.reason[:LONGEST_VALUE])
        if record.folder is not None:
            paths = TrialPaths(record.folder)
            there = {file.path for file in self._client.list_artifacts(run_id)}
            for path in (paths.best, paths.latest, paths.config):
                if path.exists() and path.name not in there:
                    self._log_artifact(run_id, path)
        self._client.set_terminated(run_id, STATUS[record.state])

    def _log_artifact(self, run_id: str, path: Path) -> None:
        """A hard link where MLflow keeps artifacts in a folder of this disk, so that no bytes lie there twice."""
        uri = self._client.get_run(run_id).info.artifact_uri
        if uri.startswith("file://"):
            folder = Path(uri.removeprefix("file://"))
            folder.mkdir(parents=True, exist_ok=True)
            link(path, folder / path.name)
        else:
            self._client.log_artifact(run_id, str(path))

    def run_ids(self) -> dict[str, str]:
        """{trial_id: run id}."""
        return dict(self._runs)

    def close(self, status: str) -> None:
        """End the parent run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._parent, status)


class BackgroundTracker:
    """One thread that delivers records, so that a slow or dead server is off the sweep's path."""

    def __init__(self, tracker: Tracker, params: Mapping[str, Any]) -> None:
        self._tracker, self._params = tracker, params
        self._waiting: dict[str, TrialRecord] = {}
        self._lock, self._wake = threading.Lock(), queue.SimpleQueue()
        self.error: str | None = None
        self._opened = False
        threading.Thread(target=self._work, daemon=True, name="tracking").start()

    def submit(self, record: TrialRecord) -> None:
        """Deliver soon; a newer record of the same trial takes the place of an older one."""
        with self._lock:
            self._waiting[record.trial_id] = record
        self._wake.put(None)

    def _work(self) -> None:
        while True:
            self._wake.get()
            while not self._wake.empty():
                self._wake.get()
            self._deliver()

    def _deliver(self) -> None:
        while True:
            with self._lock:
                record = next(iter(self._waiting.values()), None)
            if record is None:
                return
            try:
                if not self._opened:
                    self._tracker.open(self._params)
                    self._opened = True
                self._tracker.sync(record)
                self.error = None
            except Exception as error:  # whatever a tracking server can do wrong
                self.error = redact(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
                return
            with self._lock:
                if self._waiting.get(record.trial_id) is record:
                    del self._waiting[record.trial_id]

    def flush(self, seconds: float) -> int:
        """Wait for deliveries at most so long; returns how many records could not be delivered."""
        end = time.monotonic() + seconds
        self._wake.put(None)
        while time.monotonic() < end:
            with self._lock:
                if not self._waiting:
                    return 0
            if self.error:
                self._wake.put(None)
                time.sleep(0.5)
            time.sleep(0.05)
        return len(self._waiting)

    def run_ids(self) -> dict[str, str]:
        return self._tracker.run_ids()

    def close(self, status: str) -> None:
        """End the parent run, if the server lets us."""
        try:
            if self._opened:
                self._tracker.close(status)
        except Exception as error:
            self.error = redact(str(error))


class Wandb:
    """The same records as W&B runs, grouped by sweep."""

    def __init__(self, settings: ExperimentSettings, sweep: str) -> None:
        try:
            import wandb
        except ImportError:
            raise RequestError("experiment.use_wandb=true needs the package wandb: pip install wandb") from None
        self._wandb, self._project, self._sweep = wandb, settings.wandb_project, sweep

    def sync(self, record: TrialRecord) -> None:
        """Ended records only: a W&B run is written in one go, and its id makes a repetition a resumption."""
        if record.state == "running":
            return
        run = self._wandb.init(project=self._project, group=self._sweep or None, id=record.trial_id,
                               name=record.name, config=record.params, resume="allow", dir=str(Path("outputs")))
        rows = read_rows(TrialPaths(record.folder).metrics) if record.folder else []
        for row in rows or [{"epoch": 0, "metrics": record.values}]:
            run.log(row["metrics"], step=row["epoch"])
        run.finish(exit_code=int(record.state == "failed"), quiet=True)
