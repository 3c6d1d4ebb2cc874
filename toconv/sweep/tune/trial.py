"""A trial as Tune sees it, in a worker: its steps are epochs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

from toconv.paths import TrialPaths, write_atomic
from toconv.redaction import VARIABLES
from toconv.sweep.cluster import is_drained, node_id
from toconv.sweep.leaving import DrainedHere

if TYPE_CHECKING:
    from toconv.sweep.trainable import RunningTrial

ENV_VARS_TO_PROPAGATE.difference_update(VARIABLES)  # Tune sends these to workers, whose agent logs them; ours need none


class RayTrial(tune.Trainable):
    """Reused actors may be set up for a trial that they never run, so that the
    trial's folder is opened at its first step."""

    def setup(self, config: dict[str, Any]) -> None:
        self._inputs: dict[str, Any] = config["inputs"]
        self._trial: RunningTrial | None = None
        self._drained: DrainedHere | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        outcome = self._outcome()
        epoch = outcome["row"]["epoch"] if "row" in outcome else 0
        done = "row" not in outcome or outcome["complete"]
        distortion = outcome["row"]["metrics"]["distortion"] if "row" in outcome else float("inf")
        return {"outcome": json.dumps(outcome), "epoch": epoch, "distortion": distortion, "done": done}

    def _outcome(self) -> dict[str, Any]:
        from toconv.sweep.trainable import RunningTrial, TrialInputs, failure, step  # start-up: torch, in a worker

        if self._trial is None:
            inputs = TrialInputs(**self._inputs)
            try:
                self._trial = RunningTrial(inputs)
                self._write_worker(self._trial)
                self._drained = DrainedHere(self._trial.paths, is_drained)
            except Exception as error:
                return failure(error, TrialPaths(Path(inputs.folder)))
        outcome = step(self._trial)
        return {**outcome, "uncopied": self._trial.uncopied} if self._trial.uncopied else outcome

    def _write_worker(self, trial: RunningTrial) -> None:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        facts = {"pid": os.getpid(), "node": node_id(), "CUDA_VISIBLE_DEVICES": gpus, "stated": trial.stated}
        write_atomic(trial.paths.worker, json.dumps(facts))
        trial.send(trial.paths.worker)

    def cleanup(self) -> None:
        if self._drained is not None:
            self._drained.close()
            self._drained = None
        if self._trial is not None:
            self._trial.close()
            self._trial = None
