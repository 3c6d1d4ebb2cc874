"""Trials as W&B runs, where that is asked for. The only module that knows W&B."""

from __future__ import annotations

from toconv.errors import RequestError
from toconv.paths import write_atomic
from toconv.settings import ExperimentSettings
from toconv.sweep import run_facts
from toconv.sweep.origin import Origin
from toconv.sweep.records import TrialRecord


def log_in() -> None:
    """Ask for W&B's key now, at a terminal, if it is not known. Raises RequestError where W&B would refuse us later."""
    import wandb

    if wandb.setup().settings.mode in {"offline", "disabled"}:
        return
    try:
        wandb.login()
    except wandb.Error as error:
        raise RequestError(f"experiment.use_wandb=true: {error}; run wandb login, or set WANDB_MODE=offline") from error


class Wandb:
    """The same records as W&B runs, grouped by sweep; W&B's own files lie in `wandb` of the sweep's folder."""

    def __init__(self, settings: ExperimentSettings, origin: Origin) -> None:
        import wandb

        self._wandb, self._project, self._origin = wandb, settings.wandb_project, origin
        self._delivered = origin.root / "wandb" / "delivered"  # a file for each record, named by its trial_id

    def sync(self, record: TrialRecord) -> None:
        """Ended records only: a W&B run is written in one go, once; its id makes a repetition a resumption."""
        mark = self._delivered / record.trial_id
        if record.state == "running" or mark.exists():
            return
        tags = [record.kind, record.state, f"{record.tokens} tokens"]
        config = {**record.settings, "tokens": record.tokens, "cell": record.cell, "name": record.name,
                  "optuna.number": record.number, "tokens.fingerprint": self._origin.fingerprint,
                  "commit": self._origin.commit}
        run = self._wandb.init(
            project=self._project, group=self._origin.sweep or None, job_type=record.kind,
            id="-".join(filter(None, (self._origin.sweep, record.trial_id))),
            name=record.label, notes=run_facts.STEPS, tags=tags, config=config, resume="allow",
            dir=str(self._origin.root), settings=self._wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True,
                disable_code=True))
        for points in run_facts.epochs(record):
            if points and points[0][-1] >= run.step:
                run.log({name: value for name, value, _, _ in points}, step=points[0][-1])
        run.finish(exit_code=int(record.state == "failed"))
        write_atomic(mark, "")
