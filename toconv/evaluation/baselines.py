"""What is measured of a trial, measured of the training-free compressors."""

# B batch, N = g*g tokens, M = k*k compressed tokens, C channels

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from toconv import grid
from toconv.code_version import within
from toconv.errors import EncoderError
from toconv.evaluation.final import Evaluation
from toconv.evaluation.metrics import COST, ENCODER_SHARE, HELD_OUT, READ_BY, SHRINKAGE, VALIDATION
from toconv.models.baselines import Baseline, Fitting, fit_baselines, set_baseline
from toconv.models.cost import flops_of
from toconv.models.token_sets import Coded, keep_salient
from toconv.progress import say
from toconv.tokens.class_attention import ClassAttention
from toconv.tokens.codes import linear_codes
from toconv.tokens.smaller_store import SmallerPictures, smaller_store

MEASURED_BY = (  # below the package
    "grid.py",
    *within("evaluation", "baselines", "distortion", "embedding_agreement", "final", "hard_pictures", "metrics"),
    *within("evaluation", "perception"),
    *READ_BY,
    *within("models", "baselines", "cost", "frequencies", "linear_code", "linear_fit", "token_sets"),
    *within("tokens", "batches", "class_attention", "codes", "encoder_models", "encoders", "known_images"),
    *within("tokens", "crop_boxes", "last_layer", "saliency", "smaller_store", "stored"),
)
BATCH = 32  # images at a time; changes no number
SMALLER = "smaller_picture"
Found = dict[str, dict[str, Any]]  # {baseline: {metrics, seconds}}


class Clock:
    """Seconds since the last look."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def lap(self) -> float:
        start, self._start = self._start, time.perf_counter()
        return round(self._start - start, 3)


def measure(evaluation: Evaluation, k: int) -> Found:
    """Baselines that are made from a store's tokens, on the validation and the test images, each fitted on the training
    images. Says which cannot be had of this encoder."""
    store, clock, found = evaluation.store, Clock(), Found()
    with torch.inference_mode():
        codes = linear_codes(store, k, evaluation.train.device)
        for name, baseline in fit_baselines(Fitting(evaluation.train, store.grid_size, k, codes)):
            metrics = _metrics(evaluation, baseline, k)
            metrics |= zip(SHRINKAGE, codes.shrinkage, strict=True) if name == "linear" else {}
            found[name] = {"metrics": metrics, "seconds": clock.lap()}
        try:
            found["visionzip"] = {"metrics": _metrics(evaluation, _visionzip(evaluation, k), k), "seconds": clock.lap()}
        except EncoderError as error:
            say(f"baseline visionzip left out: {error}")
    return found


def measure_smaller(evaluation: Evaluation, k: int) -> Found:
    """The smaller picture, where its tokens are there. Beside them stands its own class token: a reader of it has no
    other."""
    store, clock = evaluation.store, Clock()
    smaller = smaller_store(store, k)
    if smaller is None:
        return {}
    pictures = SmallerPictures(store, smaller, evaluation.train.device)
    baseline = Baseline(pictures, partial(grid.upsample, g=store.grid_size))
    classes = {split.name: smaller.class_tokens(split.name) for split in HELD_OUT}
    with torch.inference_mode():
        metrics = _metrics(evaluation, baseline, k, classes)
    metrics[ENCODER_SHARE] = k**2 / store.grid_size**2
    return {SMALLER: {"metrics": metrics, "seconds": clock.lap()}}


def _visionzip(evaluation: Evaluation, k: int) -> Baseline:
    """Raises EncoderError where the encoder gives no attention of its class token."""
    saliency = ClassAttention(evaluation.store, evaluation.encoder, evaluation.train.device)

    def code(x_BNC: torch.Tensor) -> Coded:
        return keep_salient(x_BNC, saliency(x_BNC), k**2)

    return set_baseline(code)


def _metrics(
    evaluation: Evaluation, baseline: Baseline, k: int, classes: Mapping[str, torch.Tensor] | None = None
) -> dict[str, float]:
    """`classes`: its own class tokens of each split, where they are not the store's."""
    asked = k if baseline.gives_grid else None
    metrics = evaluation.final(
        baseline.compress, baseline.decompress, asked, test=True, classes=classes, read=baseline.is_read
    )
    image_1NC = next(iter(evaluation.held_out[VALIDATION.name]))[:1]
    cost = (float(flops_of(baseline.compress, image_1NC)), float(baseline.numbers))
    return {**metrics, **dict(zip(COST, cost, strict=True))}
