"""Settings of a sweep whose trials take seconds, and one finished sweep that was recorded everywhere."""

from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.sweep.running import run, write_sweep


def quick(tiny_encoder, photographs, folder):
    return {
        **tiny_encoder, "data": "folder", "data.root": str(photographs), "data.crops": 3,
        "model.compressor.width": 8, "model.decoder.width": 8, "model.critic.width": 8, "training.epochs": 3,
        "training.batch_size": 8, "experiment.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}


@pytest.fixture(scope="module")
def overrides(tiny_encoder, photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, quick(tiny_encoder, photographs, folder)


@dataclass(frozen=True)
class Recorded:
    """A sweep with finalists that ended, recorded in MLflow and W&B with what its machine did."""

    folder: Path
    file: Path
    done: CompletedProcess

    @property
    def root(self):
        return self.folder / "outputs" / "tiny"

    @property
    def uri(self):
        return f"sqlite:///{self.folder / 'mlflow.db'}"


@pytest.fixture(scope="session")
def recorded(tiny_encoder, photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    file = write_sweep(folder, quick(tiny_encoder, photographs, folder), finalists={"seeds": 1})
    done = run(folder, file, "experiment.system_metrics=true", "experiment.use_wandb=true",
               "experiment.wandb_project=photographs", WANDB_MODE="offline", FORCE_COLOR="1", COLUMNS="60")
    assert done.returncode == 0, done.stdout + done.stderr
    return Recorded(folder, file, done)
