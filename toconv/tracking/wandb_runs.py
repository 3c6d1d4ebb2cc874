"""Trials as W&B runs, where that is asked for. The only module that knows W&B."""

import json
from collections.abc import Mapping
from typing import Any

import wandb

from toconv.analysis.records import State, TrialRecord
from toconv.errors import RequestError
from toconv.paths import write_atomic
from toconv.settings import ExperimentSettings
from toconv.tracking import run_facts
from toconv.tracking.provenance import Provenance
from toconv.tracking.tracker import Tracker

WITHOUT: dict[str, Any] = {"x_disable_stats": True, "x_disable_meta": True, "disable_git": True, "disable_code": True}


class WandbTracker(Tracker):
    """The same records as W&B runs, grouped by sweep; W&B's own files lie in `wandb` of the sweep's folder."""

    def __init__(self, settings: ExperimentSettings, provenance: Provenance) -> None:
        super().__init__(settings, provenance)
        self._delivered = provenance.root / "wandb" / "delivered"  # a file for each record, named by its trial_id

    @classmethod
    def check_access(cls) -> None:
        """Ask for W&B's key now, at a terminal, if it is not known."""
        if wandb.setup().settings.mode in {"offline", "disabled"}:
            return
        try:
            wandb.login()
        except wandb.Error as error:
            raise RequestError(
                f"experiment.use_wandb=true: {error}; run wandb login, or set WANDB_MODE=offline"
            ) from error

    def sync(self, record: TrialRecord) -> None:
        """Ended records only: a W&B run is written in one go; its id makes a repetition a resumption."""
        mark, own = self._delivered / record.trial_id, {name: record.values[name] for name in record.own}
        if record.state == State.RUNNING or (mark.exists() and mark.read_text() == _told(record, own)):
            return
        config = {**record.settings, "tokens": record.tokens, "cell": record.cell, "name": record.name}
        config |= {"optuna.number": record.number, "commit": self.provenance.commit}
        config["tokens.fingerprint"] = self.provenance.fingerprint
        sweep = self.provenance.sweep_id or self.provenance.sweep
        run = wandb.init(
            project=self.settings.wandb_project,
            group=sweep or None,
            job_type=record.kind,
            id="-".join(filter(None, (sweep, record.trial_id))),
            name=record.label,
            notes=run_facts.STEPS,
            tags=[record.kind, record.state, f"{record.tokens} tokens"],
            config=config,
            resume="allow",
            dir=str(self.provenance.root),
            settings=wandb.Settings(silent=True, console="off", **WITHOUT),
        )
        for points in run_facts.epochs(record):
            if points and points[0][-1] >= run.step:
                run.log({name: value for name, value, _, _ in points}, step=points[0][-1])
        run.summary.update(own)
        run.finish(exit_code=int(record.state == State.FAILED))
        write_atomic(mark, _told(record, own))


def _told(record: TrialRecord, own: Mapping[str, float]) -> str:
    """What a mark says: the numbers of the user's own evaluation, which may come later than all others, and how a trial
    ended that may be run again."""
    told = {**own} if record.state == State.COMPLETE else {"state": record.state, **own}
    return json.dumps(told) if told else ""
