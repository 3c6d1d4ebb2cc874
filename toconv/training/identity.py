"""What decides a training's result, and the hash that names it."""

import hashlib
import json
from typing import Any

from toconv.code_version import code_version, within
from toconv.evaluation.metrics import READ_BY
from toconv.hardware import mixed_precision
from toconv.setting_names import changes_a_number
from toconv.settings import Settings

TRAINING_CODE = (  # below the package
    "grid.py",
    *within("evaluation", "distortion", "embedding_agreement", "final", "hard_pictures", "metrics", "perception"),
    *READ_BY,
    *within("models", "blocks", "cost", "critic", "decoder", "families", "linear_code", "linear_fit"),
    *within("models", "abstractor", "compressor", "cross_attention", "ldp", "merger", "nested"),
    *within("models/kernels", "norm_silu", "reconstruction"),
    *within(
        "tokens",
        "batches",
        "codes",
        "crop_boxes",
        "encoder_models",
        "encoders",
        "known_images",
        "last_layer",
        "saliency",
    ),
    *within("tokens", "smaller_store", "stored"),
    *within("training", "agreement", "captured", "critic_samples", "gradients", "loop", "losses", "micro_batches"),
    *within("training", "optimizers", "partial_epoch", "starts"),
)

WARM_RESTART = within("training", "warm_restart")  # decides an extension's numbers besides


def training_code() -> str:
    """The version of the modules whose change would change a training's numbers."""
    return code_version(TRAINING_CODE)


def deciding(settings: Settings) -> dict[str, Any]:
    """The settings that a training's numbers depend on, beside its tokens."""
    dump = settings.model_dump(mode="json", include={"model", "loss", "training"})
    training = {key: value for key, value in dump["training"].items() if changes_a_number(f"training.{key}")}
    precision = {"mixed_precision": mixed_precision(settings.hardware), "tf32": settings.hardware.tf32}
    return {**dump, "training": training, **precision}


def trial_id(settings: Settings, fingerprint: str, extends: str | None = None) -> str:
    """12 hex digits; equal exactly where settings, seed, tokens and what the training code computes are, and the
    training whose end it began at, where it `extends` one."""
    whole: dict[str, Any] = {"settings": deciding(settings), "tokens": fingerprint, "code": training_code()}
    if extends:
        whole["extends"] = {"trial": extends, "code": code_version(WARM_RESTART)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]
