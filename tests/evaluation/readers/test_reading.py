"""Measures of readers against scikit-learn's, and where they stand between their bounds."""

import pytest
import torch
from sklearn.metrics import jaccard_score, r2_score

from toconv.evaluation.readers.clusters import CLUSTERS, cluster_centres, nearest_centre
from toconv.evaluation.readers.reading import Reading, between, confusion, explained, hard_half, mean_iou, share

ALL = torch.ones(6, dtype=torch.bool)


def labels(seed):
    return torch.randint(4, (6, 30), generator=torch.Generator().manual_seed(seed))


def test_mean_iou_is_scikit_learns_macro_jaccard_over_the_classes_that_occur():
    predicted, actual = labels(0), labels(1).clamp_max(2)
    found = Reading(confusion(predicted, actual, CLUSTERS), mean_iou).of(ALL)
    expected = jaccard_score(actual.flatten(), predicted.flatten(), average="macro", labels=[0, 1, 2])
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_is_explained_is_r_squared_on_the_chosen_images():
    y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    predicted, chosen = y + 0.3, torch.tensor([True, True, False, True, False, False])
    y_mean = y[chosen].mean(0)
    sums = torch.stack([(predicted - y).square().sum(1), (y - y_mean).square().sum(1)], 1)
    expected = r2_score(y[chosen], predicted[chosen], multioutput="variance_weighted")
    assert Reading(sums, explained).of(chosen) == pytest.approx(expected, abs=1e-5)


def test_the_floor_stands_at_0_and_the_ceiling_at_1():
    floor, ceiling = (Reading(torch.tensor([[value, 1.0]]).repeat(6, 1), share) for value in (0.2, 0.8))
    half = Reading(torch.tensor([[0.5, 1.0]]).repeat(6, 1), share)
    assert [between(r, floor, ceiling, ALL) for r in (floor, half, ceiling)] == pytest.approx([0, 0.5, 1])
    assert between(half, floor, floor, ALL) is None


def test_where_nothing_was_counted_there_is_no_number():
    nothing = Reading(torch.zeros(6, 2), share)
    assert between(nothing, nothing, nothing, ALL) is None


def test_the_hard_half_is_of_whole_pictures_with_the_lowest_mean():
    score = torch.tensor([0.9, 0.1, 0.6, 0.6, 0.2, 0.2])  # means 0.5, 0.6, 0.2
    assert hard_half(score, 2).tolist() == [True, True, False, False, True, True]
    assert hard_half(score, 1).tolist() == [False, True, False, False, True, True]


def test_clusters_of_separate_clouds_are_these_clouds_each_time():
    generator = torch.Generator().manual_seed(0)
    clouds = torch.randn(CLUSTERS, 5, generator=generator) * 20
    member = torch.arange(CLUSTERS).repeat(30)
    x = clouds[member] + 0.1 * torch.randn(len(member), 5, generator=generator)
    centres = cluster_centres(x)
    assert torch.equal(centres, cluster_centres(x))
    found = nearest_centre(x, centres)
    assert torch.equal(found, torch.cdist(x, centres).argmin(1))
    together = found[:, None] == found
    assert torch.equal(together, member[:, None] == member)
