"""What decides a training's result, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from toconv.hardware import mixed_precision
from toconv.settings import Settings

PACKAGE = Path(__file__).parent
TRAINING_CODE = (
    "grid.py", "losses.py", "metrics.py", "optimizers.py", "perception.py", "training.py", "units.py", "use.py",
    "models/blocks.py", "models/compressor.py", "models/cost.py", "models/critic.py", "models/decoder.py",
    "models/linear_code.py", "models/norm_silu.py",
    "tokens/batches.py", "tokens/codes.py", "tokens/encoder.py")
BOOKKEEPING = {"log_every", "checkpoint_every", "keep_last_n"}  # of training: they change no number


BASELINE_CODE = (*TRAINING_CODE, "models/baselines.py", "sweep/baseline_runs.py")


@cache
def code_version(names: tuple[str, ...] = TRAINING_CODE) -> str:
    """A hash of the modules whose change would change a training's numbers, or those of baselines."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (PACKAGE / name).read_bytes())
    return digest.hexdigest()[:12]


def deciding(settings: Settings) -> dict[str, Any]:
    """The settings that a training's numbers depend on, beside its tokens."""
    dump = settings.model_dump(mode="json")
    training = {key: value for key, value in dump["training"].items() if key not in BOOKKEEPING}
    return {"model": dump["model"], "loss": dump["loss"], "training": training,
            "mixed_precision": mixed_precision(settings.hardware)}


def trial_id(settings: Settings, fingerprint: str) -> str:
    """12 hex digits; equal exactly where settings, seed, tokens and training code are."""
    whole = {"settings": deciding(settings), "tokens": fingerprint, "code": code_version()}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]
