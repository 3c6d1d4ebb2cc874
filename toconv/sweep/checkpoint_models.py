"""Checkpoints as MLflow's models, which point at files of ours: which file is the best at so many tokens?"""

from __future__ import annotations

from typing import Any

from toconv.paths import TrialPaths
from toconv.sweep import run_facts
from toconv.sweep.origin import Origin
from toconv.sweep.records import TrialRecord


class CheckpointModels:
    """A model for each trial whose checkpoint is kept, with the metrics of that checkpoint."""

    def __init__(self, client: Any, experiment: str, origin: Origin) -> None:
        self._client, self._experiment, self._origin = client, experiment, origin

    def sync(self, run_id: str, record: TrialRecord) -> None:
        """Make the record's model, or remove it where its checkpoint went. Doing it again changes nothing."""
        found = self._client.search_logged_models([self._experiment], f"source_run_id = '{run_id}'")
        if not (record.kept and record.state == "complete"):
            for model in found:
                self._client.delete_logged_model(model.model_id)
            return
        model = found[0] if found else self._create(run_id, record)
        self._client.finalize_logged_model(model.model_id, "READY")
        for name, value, timestamp, step in run_facts.epochs(record)[-1]:
            self._client.log_metric(run_id, name, value, timestamp, step, model_id=model.model_id)

    def _create(self, run_id: str, record: TrialRecord) -> Any:
        """The checkpoint is the last epoch's, whose metrics results.csv holds. MLflow allows no dots in the name."""
        tags = {run_facts.HASH: record.trial_id, "label": record.label, "cell": record.cell, "kind": record.kind,
                run_facts.SWEEP: self._origin.sweep, "mlflow.model.isExternal": "true"}
        params = {**run_facts.record_params(record), "checkpoint": str(TrialPaths(record.folder).latest),
                  "tokens.fingerprint": self._origin.fingerprint}
        return self._client.create_logged_model(
            self._experiment, f"{record.tokens}-tokens-{record.trial_id}", run_id, tags, params, "compressor")
