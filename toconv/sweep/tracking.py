"""Trials in MLflow. The only module that knows it.

What is durable lies in a trial's folder; tracking copies it. Every delivery is idempotent: a run is
found by its tag, and rows that are there already are left out, so that the same record may be offered
again after any interruption. A tracking server that is slow or gone costs the sweep nothing.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from toconv.durable import read_rows
from toconv.paths import REPOSITORY, TrialPaths, link
from toconv.settings import ExperimentSettings
from toconv.sweep.records import TrialRecord
from toconv.sweep.wandb_runs import Wandb

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PARENT, HASH, SWEEP, DELIVERED = "mlflow.parentRunId", "trial.hash", "toconv.sweep", "toconv.delivered"
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
        self._ended: dict[str, str] = {}  # how each ended trial was delivered, by trial_id
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
                trial_id = run.data.tags[HASH]
                self._runs[trial_id] = run.info.run_id
                if DELIVERED in run.data.tags:
                    self._ended[trial_id] = run.data.tags[DELIVERED]
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
        outcome = f"{record.state}, checkpoints {'kept' if record.kept else 'gone'}"
        if self._ended.get(record.trial_id) == outcome:
            return run_id
        self._ship_metrics(run_id, record)
        if record.state != "running":
            self._end(run_id, record)
            self._client.set_tag(run_id, DELIVERED, outcome)
            self._ended[record.trial_id] = outcome
        if self._wandb:
            self._wandb.sync(record)
        return run_id

    def _create(self, record: TrialRecord) -> str:
        tags = {HASH: record.trial_id, "kind": record.kind, "cell": record.cell, "tokens": str(record.tokens),
                "state": record.state, **({PARENT: self._parent, SWEEP: self.sweep} if self._parent else {})}
        rows = read_rows(TrialPaths(record.folder).metrics) if record.folder else []
        began = int(rows[0]["timestamp"] - 1000 * rows[0]["seconds"]) if rows else None  # ms; None: now
        run_id = self._client.create_run(self._experiment, began, tags, record.name).info.run_id
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
            self._artifacts(run_id, TrialPaths(record.folder))
        rows = read_rows(TrialPaths(record.folder).metrics) if record.folder else []
        self._client.set_terminated(run_id, STATUS[record.state], rows[-1]["timestamp"] if rows else None)

    def _artifacts(self, run_id: str, paths: TrialPaths) -> None:
        """Checkpoints and settings. Where MLflow keeps artifacts in a folder of this disk they are hard links, so that
        no bytes lie there twice, and go when the checkpoints go; elsewhere they are uploaded and stay."""
        uri = self._client.get_run(run_id).info.artifact_uri
        local = Path(unquote(urlparse(uri).path)) if uri.startswith("file:") or uri.startswith("/") else None
        there = set() if local else {file.path for file in self._client.list_artifacts(run_id)}
        for path in (paths.best, paths.latest, paths.config):
            if local and path.exists():
                local.mkdir(parents=True, exist_ok=True)
                link(path, local / path.name)
            elif local:
                (local / path.name).unlink(missing_ok=True)
            elif path.exists() and path.name not in there:
                self._client.log_artifact(run_id, str(path))

    def run_ids(self) -> dict[str, str]:
        """{trial_id: run id}."""
        return dict(self._runs)

    def close(self, status: str) -> None:
        """End the parent run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self._parent, status)
