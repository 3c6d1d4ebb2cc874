"""Trials in MLflow. The only module that knows it.

What is resumable lies in a trial's folder; tracking copies it. Every delivery is idempotent: a run is found by its tag,
and rows that are there already are left out, so that the same record may be offered again after any interruption. A
tracking server that is slow or gone costs the sweep nothing."""

import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from sqlalchemy import make_url

from toconv.analysis.records import State, TrialRecord
from toconv.errors import RequestError
from toconv.paths import others_can_read, write_new
from toconv.redaction import redact
from toconv.settings import ExperimentSettings
from toconv.tracking import databases, run_facts
from toconv.tracking.artifacts import place
from toconv.tracking.provenance import Provenance
from toconv.tracking.run_facts import FOLDER, HASH, KIND, PARENT, SWEEP, SWEEP_ID
from toconv.tracking.tracker import Tracker
from toconv.tracking_address import Store, address_mistake, is_server, store_in_use

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")  # seconds
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
STATUS = {State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.FAILED: "FAILED"}
DELIVERED, DESCRIBED = "toconv.delivered", "toconv.described"
BATCH, PARAMS = 900, 100  # metrics and params in one call (MLflow's limits are 1000 and 100)
CREDENTIALS = Path("~/.mlflow/credentials")  # MLflow's own, of servers
WITHOUT_SWEEP = "toconv"  # the experiment of single trainings
KIND_OF_WORK = {"mlflow.experimentKind": "custom_model_development"}  # for MLflow's pages, not an agent


class MlflowTracker(Tracker):
    """One sweep in MLflow: a parent run with a child run for each record; no parent where there is no sweep."""

    def __init__(self, settings: ExperimentSettings, provenance: Provenance) -> None:
        super().__init__(settings, provenance)
        self._store = store_in_use(settings.tracking_uri)
        self.uri = self._store.address
        self._start = time.time_ns() // 1_000_000  # of the parent, and of records whose own start nobody wrote down
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[str, str] = {}  # run ids by trial_id
        self._asked: set[str] = set()  # trial_ids whose run was asked for; it may be there though no answer came
        self._described: set[str] = set()  # ids of runs that have their params and data sets
        self._ended: dict[str, str] = {}  # how each ended trial was delivered, by trial_id

    @classmethod
    def check_store(cls, store: Store) -> None:
        mistake = address_mistake(store.address) or databases.missing_package(store.address)
        if not mistake and is_server(store.address) and others_can_read(file := CREDENTIALS.expanduser()):
            mistake = f"others can read {file}, which holds its login; run chmod 600 {file}"
        if mistake:
            raise RequestError(f"{store.said_by}: {mistake}")

    @classmethod
    def silence(cls, store: Store) -> str | None:
        return databases.silence(store.address)

    def open(self, params: Mapping[str, Any]) -> None:
        """Find or make the experiment and the sweep's parent run."""
        mlflow = _mlflow()
        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs, with its trace, what it raises
        _make_database(self.uri)
        self._client = mlflow.MlflowClient(self.uri)
        name = self.settings.name or self.provenance.sweep or WITHOUT_SWEEP
        self._experiment = self._experiment_of(name)
        if self.provenance.sweep:
            self._open_parent(params)

    def _experiment_of(self, name: str) -> str:
        """The id of the experiment of that name, which another process may make at the same moment."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            folder = None if not self._store.is_default else (Path("mlruns").resolve() / name).as_uri()
            try:
                return str(self._client.create_experiment(name, folder, KIND_OF_WORK))
            except _mlflow().MlflowException:
                if (found := self._client.get_experiment_by_name(name)) is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _open_parent(self, params: Mapping[str, Any]) -> None:
        found, folder = self._parents(), run_facts.folder(self.provenance)
        if found:
            self._parent = found[0].info.run_id
            self._client.update_run(self._parent, "RUNNING")
            if found[0].data.tags.get(FOLDER) != folder:
                self._client.set_tag(self._parent, FOLDER, folder)
            for run in self._search(f"tags.`{PARENT}` = '{self._parent}'"):
                self._found(run)
        else:
            tags = {**run_facts.provenance_tags(self.provenance), **run_facts.sweep_tags(self.provenance)}
            tags |= {KIND: "sweep", FOLDER: folder}
            tags["mlflow.note.content"] = run_facts.sweep_note(self.provenance, [])
            name = self.provenance.sweep
            self._parent = self._client.create_run(self._experiment, self._start, tags, name).info.run_id
        if not (found and DESCRIBED in found[0].data.tags):
            self._describe(self._parent, run_facts.texts(params))

    def _parents(self) -> list[Any]:
        """The sweep's. One that an earlier version began has no id, and a parent of its name without one."""
        kind, sweep, sweep_id = f"tags.`{KIND}` = 'sweep'", self.provenance.sweep, self.provenance.sweep_id
        if sweep_id:
            return self._search(f"{kind} and tags.`{SWEEP_ID}` = '{sweep_id}'")
        return [r for r in self._search(f"{kind} and tags.`{SWEEP}` = '{sweep}'") if SWEEP_ID not in r.data.tags]

    def _found(self, run: Any) -> None:
        """A record's run of an earlier start."""
        trial_id = run.data.tags[HASH]
        self._runs[trial_id] = run.info.run_id
        if DESCRIBED in run.data.tags:
            self._described.add(run.info.run_id)
        if DELIVERED in run.data.tags:
            self._ended[trial_id] = run.data.tags[DELIVERED]

    def _search(self, query: str) -> list[Any]:
        runs, token = [], None
        while True:
            page = self._client.search_runs([self._experiment], query, max_results=1000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    def sync(self, record: TrialRecord) -> None:
        if self._client is None:
            self.open({})
        run_id = self._runs.get(record.trial_id) or self._made(record)
        if run_id not in self._described:
            self._describe(run_id, run_facts.record_params(record))
        outcome = f"{record.state}, checkpoints {'kept' if record.kept else 'gone'}"
        outcome += "".join(f", {name} {record.values[name]!r}" for name in record.own)
        told = run_facts.outcome_tags(record)
        outcome += "".join(f", {key} {value}" for key, value in told.items() if value and key != "state")
        if self._ended.get(record.trial_id) == outcome:
            return
        if record.state == State.RUNNING and record.trial_id in self._ended:  # it failed, and is run again
            self._client.update_run(run_id, "RUNNING")
            self._tag(run_id, {**told, DELIVERED: None})
            del self._ended[record.trial_id]
        self._ship_metrics(run_id, record)
        if record.state != State.RUNNING:
            self._end(run_id, record, told)
            self._client.set_tag(run_id, DELIVERED, outcome)
            self._ended[record.trial_id] = outcome

    def _made(self, record: TrialRecord) -> str:
        """Its run, made unless an earlier call made it and had no answer."""
        trial_id, asked = record.trial_id, record.trial_id in self._asked
        self._asked.add(trial_id)
        if asked and self._parent:
            for run in self._search(f"tags.`{PARENT}` = '{self._parent}' and tags.`{HASH}` = '{trial_id}'"):
                self._found(run)
        self._runs[trial_id] = self._runs.get(trial_id) or self._create(record)
        return self._runs[trial_id]

    def _create(self, record: TrialRecord) -> str:
        tags = run_facts.record_tags(record, self.provenance)
        if self._parent:
            tags |= {PARENT: self._parent, **run_facts.sweep_tags(self.provenance)}
        began = run_facts.began(record) or self._start
        return self._client.create_run(self._experiment, began, tags, record.label).info.run_id

    def _describe(self, run_id: str, params: Mapping[str, str]) -> None:
        """Data sets and params; the tag that says they are there comes last."""
        entities = _mlflow().entities
        inputs = []
        for split in run_facts.datasets(self.provenance):
            context = entities.InputTag("mlflow.data.context", split.pop("context"))
            inputs.append(entities.DatasetInput(entities.Dataset(**split), [context]))
        self._client.log_inputs(run_id, inputs)
        values = [entities.Param(key, value) for key, value in params.items()]
        while len(values) > PARAMS:
            self._client.log_batch(run_id, params=values[:PARAMS])
            del values[:PARAMS]
        self._client.log_batch(run_id, params=values, tags=[entities.RunTag(DESCRIBED, "yes")])
        self._described.add(run_id)

    def _ship_metrics(self, run_id: str, record: TrialRecord) -> None:
        entities = _mlflow().entities
        there = self._last_step(run_id)
        metrics: list[Any] = []
        for points in run_facts.epochs(record):
            epoch = [entities.Metric(*point) for point in points if point[-1] > there]
            if len(metrics) + len(epoch) > BATCH:
                self._client.log_batch(run_id, metrics=metrics)
                metrics = []
            metrics += epoch
        if metrics:
            self._client.log_batch(run_id, metrics=metrics)

    def _last_step(self, run_id: str) -> int:
        """The last epoch that has arrived; an epoch goes in one call, and arrives whole or not at all."""
        return max((m.step for m in self._client.get_metric_history(run_id, "distortion")), default=-1)

    def _end(self, run_id: str, record: TrialRecord, told: Mapping[str, str | None]) -> None:
        if record.own:
            there = self._client.get_run(run_id).data.metrics
            own = [point for point in run_facts.own(record) if there.get(point[0]) != point[1]]
            self._client.log_batch(run_id, [_mlflow().entities.Metric(*point) for point in own])
        self._tag(run_id, told)
        if record.folder is not None:
            paths = record.paths
            self._artifacts(run_id, {path.name: path for path in (paths.best, paths.latest, paths.config)})
            self._sync_model(run_id, record)
        self._client.set_terminated(run_id, STATUS[record.state], run_facts.ended(record))

    def _tag(self, run_id: str, told: Mapping[str, str | None]) -> None:
        """Those of None go, the last of them last."""
        there = self._client.get_run(run_id).data.tags
        self._client.log_batch(run_id, tags=[_mlflow().entities.RunTag(*tag) for tag in told.items() if tag[1]])
        for key in (key for key, value in told.items() if not value and key in there):
            self._client.delete_tag(run_id, key)

    def _sync_model(self, run_id: str, record: TrialRecord) -> None:
        """A model of MLflow's that points at the record's checkpoint, with its metrics: which file is the best at so
        many tokens? Removed where the checkpoint went. Doing it again changes nothing."""
        found = self._client.search_logged_models([self._experiment], f"source_run_id = '{run_id}'")
        if not (record.kept and record.state == State.COMPLETE):
            for model in found:
                self._client.delete_logged_model(model.model_id)
            return
        model = found[0] if found else self._create_model(run_id, record)
        self._client.finalize_logged_model(model.model_id, "READY")
        for name, value, timestamp, step in [*run_facts.epochs(record)[-1], *run_facts.own(record)]:
            self._client.log_metric(run_id, name, value, timestamp, step, model_id=model.model_id)

    def _create_model(self, run_id: str, record: TrialRecord) -> Any:
        """The checkpoint is the last epoch's, whose metrics results.csv holds. MLflow allows no dots in the name."""
        tags = {HASH: record.trial_id, "label": record.label, "cell": record.cell, "kind": record.kind}
        tags |= {**run_facts.sweep_tags(self.provenance), "mlflow.model.isExternal": "true"}
        params = {**run_facts.record_params(record), "checkpoint": str(record.paths.latest)}
        params["tokens.fingerprint"] = self.provenance.fingerprint
        name = f"{record.tokens}-tokens-{record.trial_id}"
        return self._client.create_logged_model(self._experiment, name, run_id, tags, params, "compressor")

    def _artifacts(self, run_id: str, files: Mapping[str, Path]) -> None:
        """Files by the path that they have among the run's artifacts. Where MLflow keeps artifacts in a folder of this
        disk they are hard links, so that no bytes lie there twice, and go when the files go; elsewhere they are
        uploaded, checkpoints once, and stay."""
        uri = self._client.get_run(run_id).info.artifact_uri
        local = Path(unquote(urlparse(uri).path)) if uri.startswith(("file:", "/")) else None
        there = set() if local else {file.path for file in self._client.list_artifacts(run_id)}
        for name, path in files.items():
            if local:
                place(path, local / name)
            elif path.suffix == ".yaml" and path.exists():
                self._client.log_text(run_id, redact(path.read_text()), name)
            elif path.exists() and not (path.suffix == ".pt" and name in there):
                self._client.log_artifact(run_id, str(path), name.rpartition("/")[0] or None)

    def run_ids(self) -> dict[str, str]:
        return dict(self._runs)

    def page(self) -> str:
        """MLflow opens on pages about language models otherwise."""
        return f"#/experiments/{self._experiment}/runs" if self._experiment else ""

    def close(self, status: str, records: Sequence[TrialRecord], files: Mapping[str, Path]) -> None:
        self._client.set_tag(self._parent, "mlflow.note.content", run_facts.sweep_note(self.provenance, records))
        self._artifacts(self._parent, files)
        self._client.set_terminated(self._parent, status)


def _mlflow() -> Any:
    import mlflow  # start-up: seconds, in the thread that delivers

    return mlflow


def _make_database(uri: str) -> None:
    """Make the SQLite file of `uri` if it is not there yet: elsewhere, then whole into place. MLflow makes it in a
    hundred steps, two seconds, and takes none that was left half made."""
    mlflow = _mlflow()
    url = make_url(uri) if uri.startswith("sqlite:///") else None
    if not url or not url.database or url.query or url.database == ":memory:" or Path(url.database).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "mlflow.db")
        mlflow.MlflowClient(f"sqlite:///{made}")
        with closing(sqlite3.connect(made)) as connection:
            write_new(Path(url.database), connection.serialize())
