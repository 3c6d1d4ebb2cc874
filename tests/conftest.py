"""A tiny encoder with weights saved locally, a folder of small photographs, and settings for both."""

import json
from pathlib import Path

import pytest
import torch

from toconv import config

TINY_GRID = 6
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 24, "patch_size": 4, "width": 32, "layers": 3, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> dict[str, object]:
    """Overrides that choose a 6×6 CLIP-style encoder of open_clip's, its weights in a local file."""
    import open_clip

    folder = tmp_path_factory.mktemp("encoder")
    architecture = folder / "toconv_tiny.json"
    architecture.write_text(json.dumps(TINY))
    open_clip.add_model_config(architecture)
    torch.manual_seed(0)
    weights = folder / "tiny.pt"
    torch.save(open_clip.create_model("toconv_tiny").state_dict(), weights)
    return {
        "encoder": "clip_vit_l_14_336", "encoder.name": "tiny", "encoder.architecture": str(architecture),
        "encoder.weights": str(weights), "encoder.layer": -2, "encoder.image_size": 24, "encoder.patch_size": 4,
        "encoder.width": 32, "encoder.dtype": "fp32", "model.compressor.output_grid_size": 3,
    }


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Twelve small pictures, cut from the photographs of scikit-learn, as JPEG, PNG and WebP."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = tmp_path_factory.mktemp("photographs")
    for number in range(12):
        picture = Image.fromarray(load_sample_images().images[number % 2])
        left, top = 40 * number, 20 * number
        suffix = ("jpg", "png", "webp")[number % 3]
        picture.crop((left, top, left + 120, top + 90)).save(folder / f"{number:02d}.{suffix}")
    return folder


@pytest.fixture
def tiny(tiny_encoder, photographs, tmp_path) -> dict[str, object]:
    """Overrides of a training that takes a second."""
    return {
        **tiny_encoder, "data": "folder", "data.root": str(photographs), "data.crops": 3,
        "data.tokens_dir": str(tmp_path / "tokens"),
        "model.compressor.width": 8, "model.decoder.width": 8, "model.critic.width": 8, "training.epochs": 3,
        "training.batch_size": 8, "training.n_critic": 2, "hardware.device": "cpu", "hardware.mixed_precision": False,
        "hardware.threads": 1, "experiment.checkpoint_dir": str(tmp_path / "checkpoints"),
        "experiment.tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }


@pytest.fixture
def settings(tiny):
    return config.compose(tiny)
