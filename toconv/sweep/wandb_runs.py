"""Trials as W&B runs, where that is asked for. The only module that knows W&B."""

from __future__ import annotations

from pathlib import Path

from toconv.durable import read_rows
from toconv.errors import RequestError
from toconv.paths import TrialPaths
from toconv.settings import ExperimentSettings
from toconv.sweep.records import TrialRecord


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
                               name=record.name, config=record.params, resume="allow", dir=str(Path("outputs")),
                               settings=self._wandb.Settings(silent=True))
        rows = read_rows(TrialPaths(record.folder).metrics) if record.folder else []
        for row in rows or [{"epoch": 0, "metrics": record.values}]:
            run.log(row["metrics"], step=row["epoch"])
        run.finish(exit_code=int(record.state == "failed"))
