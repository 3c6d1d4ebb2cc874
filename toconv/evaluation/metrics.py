"""The one list of metrics. Whoever records, ranks, shows or explains one asks here; needs no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from toconv.code_version import within
from toconv.settings import AGREEMENT_WEIGHT

if TYPE_CHECKING:
    import torch


class Place(Enum):
    """Where a metric is shown, beside results.csv, MLflow and the report's table of every row, which have all."""

    TABLE = auto()  # first columns of every table; an objective of sweeps; finalists' tables
    HEADLINE = auto()  # the report's first table of recommended compressors
    FIGURE = auto()  # against the number of tokens; the model card
    PANEL = auto()  # against distortion, at each number of tokens
    CURVE = auto()  # by epoch
    ABLATION = auto()  # trainings with a critic less those without


@dataclass(frozen=True)
class Metric:
    """One number that is measured on held-out pictures."""

    name: str  # in results.csv, MLflow and objectives; with a split's prefix
    title: str  # in figures and tables
    unit: str
    lower_is_better: bool
    formula: str  # in words, for whoever reads a card
    shown: frozenset[Place]
    given_by: str | None = None  # the setting that makes it, or what decides it, a loss of a training
    per_image: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    """(B, N, C) tokens, (B, M, C) compressed and (B, N, C) restored ones, all standardised → (B,). The metric is its
    mean over the images. None: evaluation/ has a module for it."""

    @property
    def words(self) -> str:
        """The name as it reads in a sentence."""
        return self.name.replace("_", " ")

    @property
    def axis(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def direction(self) -> str:
        return "lower is better" if self.lower_is_better else "higher is better"

    @property
    def sign(self) -> int:
        """By which a value is multiplied so that lower is better."""
        return 1 if self.lower_is_better else -1

    def best(self, values: Iterable[float]) -> float:
        return min(values) if self.lower_is_better else max(values)


GIVEN = "†"  # stands behind a value that the training was given as its loss
GIVEN_NOTE = f"{GIVEN} the training was given this as its loss, so that it is no independent measure of it"
GIVEN_TRIALS = "trials were given this as their loss: no independent measure of them"


class Split(NamedTuple):
    """Held-out pictures: their name in a token store, what the names of their metrics begin with, what people read."""

    name: str
    prefix: str
    title: str


VALIDATION, TEST = Split("val", "", "validation"), Split("test", "test_", "test")
HELD_OUT = (VALIDATION, TEST)
READ_BY = within(  # modules of all readers, below the package
    "evaluation/readers",
    *("clusters", "correspondence", "local_ridge", "panel", "reading"),
    *("references", "restored", "ridge", "zero_shot"),
)
HARD = "_hard"  # ends the name of a metric on the half of the pictures on which the smaller picture does worst
EVERYWHERE = frozenset(Place)
FOLDED: frozenset[Place] = frozenset()

METRICS = {
    m.name: m
    for m in (  # in the order in which tables have them
        Metric(
            "distortion",
            "distortion",
            "FVU, own decoder",
            True,
            "fraction of the tokens' variance that the compressor's own decoder cannot recover",
            EVERYWHERE - {Place.PANEL},
        ),
        Metric(
            "distortion_ridge",
            "distortion, common decoder",
            "FVU, closed-form ridge",
            True,
            "the same with one closed-form decoder for every compressor",
            frozenset({Place.TABLE, Place.FIGURE, Place.ABLATION}),
        ),
        Metric(
            "perception",
            "perception",
            "excess sliced Wasserstein distance",
            True,
            "sliced Wasserstein distance of compressed tokens from original ones, less that of originals from "
            "themselves",
            EVERYWHERE,
        ),
        Metric(
            "embedding_agreement",
            "embedding agreement",
            "cosine of the pooled embedding",
            False,
            "cosine of the encoder's pooled embedding from compressed tokens with that from all",
            EVERYWHERE - {Place.CURVE},
            AGREEMENT_WEIGHT,
        ),
        Metric(
            "cosine",
            "cosine of tokens",
            "centred",
            False,
            "mean centred cosine of tokens and decoded tokens",
            frozenset({Place.TABLE, Place.FIGURE}),
        ),
        Metric(
            "zero_shot_agreement",
            "zero-shot agreement",
            "share of images",
            False,
            "share of images that both embeddings put into the same of ImageNet's classes",
            frozenset({Place.FIGURE}),
            AGREEMENT_WEIGHT,
        ),
        *(  # readers; those that tell compressors apart beyond noise are shown in figures
            Metric(name, title, "0: mean token, 1: all tokens", False, formula, shown)
            for name, title, formula, shown in (  # docs/science.md
                (
                    "last_layer_read",
                    "last layer, read",
                    "R² of the encoder's last layer at every place, by a ridge fitted on training pictures",
                    frozenset({Place.FIGURE, Place.PANEL}),
                ),
                (
                    "embedding_read",
                    "embedding, read",
                    "R² of the encoder's pooled embedding, by a kernel ridge fitted on training pictures",
                    FOLDED,
                ),
                (
                    "probe_read",
                    "linear probe",
                    "accuracy of a kernel ridge to an image's class, fitted on training pictures",
                    FOLDED,
                ),
                (
                    "zero_shot_kept",
                    "zero-shot accuracy",
                    "accuracy of the embedding against the text tower's of the class folders' names",
                    FOLDED,
                ),
                (
                    "segmentation_read",
                    "segmentation, read",
                    "mean IoU of clusters of the last layer, by a ridge fitted on training pictures",
                    FOLDED,
                ),
                (
                    "segmentation_restored",
                    "segmentation, restored",
                    "the same by a head fitted on original tokens and applied to restored ones",
                    FOLDED,
                ),
                (
                    "saliency_restored",
                    "saliency, restored",
                    "correlation of the encoder's saliency map from restored tokens with that from all",
                    FOLDED,
                ),
                (
                    "saliency_iou",
                    "saliency IoU, restored",
                    "intersection over union of what lies above the mean of the saliency map from all tokens",
                    FOLDED,
                ),
                (
                    "correspondence_restored",
                    "correspondence, restored",
                    "share of the places of one crop that find themselves in another of the picture, within a place",
                    FOLDED,
                ),
                (
                    "neighbours_kept",
                    "neighbours kept",
                    "share of the ten nearest training images that stay nearest by the encoder's embedding",
                    frozenset({Place.FIGURE}),
                ),
            )
        ),
    )
}

DIAGNOSTICS = {  # means over an epoch's steps, of the training itself: comparable within a training alone
    "L_total": "The whole loss",
    "L_gen": "The generator's adversarial loss",
    "L_ae_mse": "Reconstruction, squared error",
    "L_ae_cosine": "Reconstruction, 1 − cosine",
    "L_agreement": "Agreement in the encoder’s last layer, 1 − cosine",
    "gradient_norm": "Gradients of compressor and decoder",
    "balance": "The scale of L_gen",
    "L_disc": "The critic’s loss",
    "critic_gap": "Its score of originals less that of compressed tokens",
    "gradient_penalty": "The penalty, before lambda_gp",
    "critic_gradient_norm": "Gradients of the critic",
}
SHRINKAGE = ("shrinkage_alike", "shrinkage_apart")  # of the baseline `linear`, as toconv/models/linear_fit.py has it
MATCHED = ("matched_width", "matched_off_percent")  # of a compressor with `match`, as toconv/models/families.py has it
MICRO_BATCH = "micro_batch"  # images at a time of a training that came to divide its batches
ENCODER_SHARE = "encoder_share"  # of the encoder's tokens, where a baseline saves the encoder too: k²/g²
COST = ("compressor_flops", "compressor_parameters")  # of one image; numbers that it holds


SIZED = re.compile(r"k([1-9][0-9]*)_(.+)")


def of_size(k: int, name: str) -> str:
    """What a metric of a nested compressor is called at another k than that of its trial: `k4_distortion`,
    `k4_test_distortion`."""
    return f"k{k}_{name}"


def sized(name: str) -> tuple[int, str] | None:
    """(k, the metric's name) of what `of_size` called so."""
    found = SIZED.fullmatch(name)
    known = found and found[2].removeprefix(TEST.prefix).removesuffix(HARD) in METRICS
    return (int(found[1]), found[2]) if found and known else None


def by_size(values: Mapping[str, float]) -> dict[int, dict[str, float]]:
    """{k: {name: value}} of those that `of_size` called so."""
    found: dict[int, dict[str, float]] = {}
    for name, value in values.items():
        if known := sized(name):
            found.setdefault(known[0], {})[known[1]] = value
    return found


def is_given(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a training with these settings, by dotted names, was given the metric as its loss. `name` may have a
    split's prefix, be of the hard half, and of another k."""
    _, name = sized(name) or (0, name)
    metric = METRICS.get(name.removeprefix(TEST.prefix).removesuffix(HARD))
    return bool(metric and metric.given_by and settings.get(metric.given_by))


def shown_in(place: Place) -> list[Metric]:
    """The metrics that are shown there."""
    return [m for m in METRICS.values() if place in m.shown]


def names_in(place: Place, split: Split = VALIDATION) -> list[str]:
    """Their names on the pictures of `split`."""
    return [split.prefix + m.name for m in shown_in(place)]


def folded() -> list[Metric]:
    """What is shown nowhere first: readers that tell compressors apart less than the others, and everything that is
    measured on the hard half too."""
    hard = (replace(m, name=m.name + HARD, title=f"{m.title}, hard half") for m in METRICS.values())
    return [*(m for m in METRICS.values() if not m.shown), *hard]


def objectives() -> list[str]:
    """What a sweep may optimise: metrics, and the number of tokens."""
    return [*names_in(Place.TABLE), "tokens"]


def taken_names() -> set[str]:
    """Of all numbers that toconv measures itself: a user's own measure has another."""
    held_out = {split.prefix + name for split in HELD_OUT for name in METRICS}
    return held_out | {*DIAGNOSTICS, *SHRINKAGE, *COST, MICRO_BATCH, "tokens"}


def own_metric(name: str, lower_is_better: bool) -> Metric:
    """What a user's own evaluation measures, marked as that."""
    return Metric(name, name, "your own measure", lower_is_better, "as your evaluation has it", frozenset())
