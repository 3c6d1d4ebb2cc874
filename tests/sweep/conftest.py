"""Settings of a sweep whose trials take seconds."""

import pytest


@pytest.fixture(scope="module")
def overrides(tiny_encoder, photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, {
        **tiny_encoder, "data": "folder", "data.root": str(photographs), "data.crops": 3,
        "model.compressor.width": 8, "model.decoder.width": 8, "model.critic.width": 8, "training.epochs": 3,
        "training.batch_size": 8, "experiment.tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}
