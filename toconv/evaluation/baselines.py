"""What is measured of a trial, measured of the training-free compressors."""

import time
from typing import Any

import torch

from toconv.code_version import within
from toconv.evaluation.final import Evaluation
from toconv.evaluation.metrics import SHRINKAGE
from toconv.evaluation.readers import READ_BY
from toconv.models.baselines import Fitting, fit_baselines
from toconv.models.cost import compressor_cost
from toconv.settings import EncoderSettings
from toconv.tokens.codes import linear_codes
from toconv.tokens.store import TokenStore

MEASURED_BY = (  # below the package
    "grid.py",
    *within(
        "evaluation",
        "baselines",
        "distortion",
        "embedding_agreement",
        "final",
        "hard_pictures",
        "metrics",
        "perception",
    ),
    *READ_BY,
    *within("models", "baselines", "cost", "linear_code", "linear_fit"),
    *within("tokens", "batches", "codes", "encoders", "saliency", "smaller_picture"),
)
BATCH = 32  # images at a time; changes no number


def measure(store: TokenStore, encoder: EncoderSettings, k: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """{baseline: {metrics, seconds}} on the validation and the test images, each fitted on the training images."""
    evaluation, found, g = Evaluation(store, encoder, BATCH, device), {}, store.grid_size
    with torch.inference_mode():
        start = time.perf_counter()
        codes = linear_codes(store, k, device)
        for name, baseline in fit_baselines(Fitting(evaluation.train, g, k, codes)):
            metrics = evaluation.final(baseline.compress, baseline.decompress, k, test=True)
            metrics |= compressor_cost(baseline.compress, baseline.numbers, g * g, store.width, str(device))
            metrics |= zip(SHRINKAGE, codes.shrinkage, strict=True) if name == "linear" else {}
            found[name] = {"metrics": metrics, "seconds": round(time.perf_counter() - start, 3)}
            start = time.perf_counter()
    return found
