"""The least that a Ray Tune script does until a worker steps: one linear layer, no tokens, no ledger, no tracking."""

from __future__ import annotations

import sys
from pathlib import Path

import ray
import torch
from ray import tune


class Trainable(tune.Trainable):
    """Writes the file named in its config when its first step begins."""

    def setup(self, config: dict[str, str]) -> None:
        self._mark = config["mark"]
        self._layer = torch.nn.Linear(8, 8)
        self._optimizer = torch.optim.AdamW(self._layer.parameters())

    def step(self) -> dict[str, object]:
        Path(self._mark).touch()
        return {"done": True}


if __name__ == "__main__":
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tune.Tuner(
        tune.with_resources(Trainable, {"cpu": 1}),
        param_space={"mark": sys.argv[1]},
        run_config=tune.RunConfig(verbose=0),
    ).fit()
