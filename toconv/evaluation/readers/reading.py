"""What a reader has read: sums of each image, and the measure that they make of any set of images."""

# I images, X sums of an image, K classes

from collections.abc import Callable
from dataclasses import dataclass

import torch

LEAST_ROOM = 0.01  # between floor and ceiling, below which nothing can be told apart


@dataclass(frozen=True)
class Reading:
    """Of one reader on the images of one split; `value` makes the measure of the sums of any of them."""

    sums_IX: torch.Tensor
    value: Callable[[torch.Tensor], torch.Tensor]

    def of(self, chosen_I: torch.Tensor) -> float:
        """The measure on the chosen images."""
        return float(self.value(self.sums_IX[chosen_I].double().sum(0)))


def between(reading: Reading, floor: Reading, ceiling: Reading, chosen_I: torch.Tensor) -> float | None:
    """(measure − floor) / (ceiling − floor): 0 for the mean token everywhere, 1 for all g² tokens; None where these two
    are the same, or nothing was counted. It may be negative, and above 1 where fewer numbers are easier to learn from
    than all."""
    low, high = floor.of(chosen_I), ceiling.of(chosen_I)
    return (reading.of(chosen_I) - low) / (high - low) if high - low >= LEAST_ROOM else None


def explained(sums_2: torch.Tensor) -> torch.Tensor:
    """R² of (squared error, squared distance from the training mean)."""
    return 1 - sums_2[0] / sums_2[1]


def share(sums_2: torch.Tensor) -> torch.Tensor:
    """Mean of (total, count)."""
    return sums_2[0] / sums_2[1]


def mean_iou(sums_X: torch.Tensor) -> torch.Tensor:
    """Intersection over union, mean over the classes that occur, of (hits, predicted, actual) of each class."""
    hits_K, predicted_K, actual_K = sums_X.view(3, -1)
    iou_K = hits_K / (predicted_K + actual_K - hits_K).clamp_min(1)
    return iou_K[actual_K > 0].mean()


def confusion(predicted_IN: torch.Tensor, actual_IN: torch.Tensor, classes: int) -> torch.Tensor:
    """(I, 3K) sums for `mean_iou`."""
    predicted_INK, actual_INK = (
        torch.nn.functional.one_hot(labels_IN.long(), classes).bool() for labels_IN in (predicted_IN, actual_IN)
    )
    counts = [found_INK.sum(1) for found_INK in (predicted_INK & actual_INK, predicted_INK, actual_INK)]
    return torch.cat(counts, 1).float()


def hard_half(score_I: torch.Tensor, crops: int) -> torch.Tensor:
    """(I,) whether an image is of the half of the pictures, rounded up, with the lowest scores, mean over a picture's
    crops: the pictures that need their tokens (VTC-Bench, arXiv 2510.07143, takes those that the smaller picture
    fails)."""
    score_P = score_I.double().unflatten(0, (-1, crops)).mean(1)
    hard_P = torch.zeros(len(score_P), dtype=torch.bool)
    hard_P[score_P.cpu().sort(stable=True).indices[: -(-len(score_P) // 2)]] = True
    return hard_P.repeat_interleave(crops)
