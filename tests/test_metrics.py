"""Metrics against other computations of the same quantity, and their invariances."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from sklearn.metrics import r2_score

from toconv import grid
from toconv.metrics import evaluate
from toconv.perception import Draws, PerceptionReference, sliced_wasserstein


def batches(images=48, g=6, c=5, seed=0):
    x = torch.randn(images, g * g, c, generator=torch.Generator().manual_seed(seed))
    x = x + x.mean(1, keepdim=True) * 3
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    return list(x.split(10))


def measure(compress, decompress, data):
    return evaluate(compress, decompress, data, PerceptionReference.from_batches(data))


def test_distortion_is_one_minus_r_squared_over_all_values():
    data = batches()
    found = measure(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), data)
    x = torch.cat(data)
    y = grid.upsample(grid.pool(x, 3), 6)
    reference = 1 - r2_score(x.flatten(0, 1).numpy(), y.flatten(0, 1).numpy(), multioutput="variance_weighted")
    assert found["distortion"] == pytest.approx(reference, abs=1e-5)


def test_perfect_reconstruction_has_no_distortion_and_cosine_one():
    found = measure(lambda x: x, lambda z: z, batches())
    assert found["distortion"] == 0
    assert found["cosine"] == pytest.approx(1)


def test_the_mean_alone_has_distortion_one():
    found = measure(lambda x: grid.pool(x, 3), lambda z: torch.zeros(len(z), 36, 5), batches())
    assert found["distortion"] == pytest.approx(1)


def test_metrics_do_not_depend_on_the_batches():
    x = torch.cat(batches())
    one = measure(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), [x])
    many = measure(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), list(x.split(7)))
    assert one["distortion"] == pytest.approx(many["distortion"], abs=1e-6)


def test_sliced_wasserstein_equals_optimal_assignment_in_one_dimension():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(1, 20, 3, generator=generator), torch.rand(1, 20, 3, generator=generator)
    squared = []
    for p in range(3):
        cost = (a[0, :, p, None] - b[0, None, :, p]).square().numpy()
        rows, columns = linear_sum_assignment(cost)
        squared.append(cost[rows, columns].mean())
    found = sliced_wasserstein(a.sort(1).values, b.sort(1).values)
    assert found.item() == pytest.approx(np.sqrt(np.mean(squared)), rel=1e-5)


def test_a_shift_moves_sliced_wasserstein_as_far_as_scipys_distance_says():
    a = torch.randn(1, 50, 1, generator=torch.Generator().manual_seed(0)).sort(1).values
    found = sliced_wasserstein(a + 0.7, a).item()
    assert found == pytest.approx(wasserstein_distance(a.flatten() + 0.7, a.flatten()), rel=1e-4)


def test_nothing_is_clearly_nearer_to_the_originals_than_originals_are():
    data = batches(images=400)
    reference = PerceptionReference.from_batches(data)
    noise = reference.floor.item()
    originals = evaluate(lambda x: x, lambda z: z, data, reference)["perception"]
    strided = evaluate(lambda x: grid.strided(x, 3), lambda z: grid.nearest(z, 6), data, reference)["perception"]
    pooled = evaluate(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), data, reference)["perception"]
    assert abs(originals) < noise / 2
    assert abs(strided) < noise
    assert pooled > 5 * max(abs(originals), abs(strided))


def test_perception_takes_the_same_number_of_samples_at_every_k():
    directions = torch.eye(5)
    for k in (1, 2, 6):
        draws = Draws(directions, seed=0)
        for x in batches():
            draws.add(grid.pool(x, k))
        assert draws.sorted().shape == (16, 48, 5)


def test_perception_is_the_same_each_time():
    data = batches()
    assert measure(lambda x: grid.pool(x, 2), lambda z: grid.upsample(z, 6), data) == measure(
        lambda x: grid.pool(x, 2), lambda z: grid.upsample(z, 6), data)
