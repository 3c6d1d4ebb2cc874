"""Metrics against other computations of the same quantity, and their invariances."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from toconv import grid
from toconv.evaluation.distortion import RIDGE, evaluate, ridge_distortion
from toconv.evaluation.perception import Draws, PerceptionReference, sliced_wasserstein


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
        lambda x: grid.pool(x, 2), lambda z: grid.upsample(z, 6), data
    )


def test_metrics_of_one_compressor_are_the_same_in_batches_of_any_size():
    x = torch.cat(batches())
    compress, decompress = (lambda x: grid.pool(x, 2)), (lambda z: grid.upsample(z, 6))
    found = [measure(compress, decompress, list(x.split(size))) for size in (1, 7, 48)]
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_perception_keeps_full_precision_under_autocast():
    data = batches()
    reference = PerceptionReference.from_batches(data)
    full = evaluate(lambda x: grid.pool(x, 2), lambda z: grid.upsample(z, 6), data, reference)
    with torch.autocast("cpu", torch.bfloat16):
        found = evaluate(lambda x: grid.pool(x, 2), lambda z: grid.upsample(z, 6), data, reference)
    assert found == pytest.approx(full, abs=1e-7)


def looped_ridge(x, z, held_x, held_z, g, k):
    """scikit-learn's ridge, fitted for one position of a cell at a time, where k divides g."""
    s, y = g // k, torch.zeros_like(held_x)
    residual = x - grid.upsample(z, g)
    features, held = z.flatten(0, 1).double().numpy(), held_z.flatten(0, 1).double().numpy()
    alpha = RIDGE * len(features) * features.var(0).mean()
    for a in range(s):
        for b in range(s):
            index = [(i * s + a) * g + j * s + b for i in range(k) for j in range(k)]
            model = Ridge(alpha=alpha).fit(features, residual[:, index].flatten(0, 1).double().numpy())
            y[:, index] = torch.from_numpy(model.predict(held)).float().view(len(held_x), k * k, -1)
    y = y + grid.upsample(held_z, g)
    return ((held_x - y).square().sum() / held_x.square().sum()).item()


@pytest.mark.parametrize("k", [2, 3])
def test_ridge_distortion_equals_scikit_learns_ridge_for_each_position_of_a_cell(k):
    train, val = batches(), batches(seed=1)
    x, held_x = torch.cat(train), torch.cat(val)
    expected = looped_ridge(x, grid.pool(x, k), held_x, grid.pool(held_x, k), 6, k)
    assert ridge_distortion(lambda x: grid.pool(x, k), train, [val], 6, k)[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("k", [1, 4, 5])
def test_ridge_distortion_does_not_depend_on_the_batches_and_is_below_that_of_nothing(k):
    train, val = torch.cat(batches()), batches(seed=1)
    found = [ridge_distortion(lambda x: grid.pool(x, k), train.split(size), [val], 6, k)[0] for size in (5, 48)]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert 0 < found[0] < 1


def test_ridge_distortion_sees_a_code_that_bilinear_upsampling_cannot_read():
    train, val = batches(), batches(seed=1)
    readable = ridge_distortion(lambda x: grid.pool(x, 2), train, [val], 6, 2)[0]
    flipped = ridge_distortion(lambda x: -grid.pool(x, 2), train, [val], 6, 2)[0]
    bilinear = measure(lambda x: -grid.pool(x, 2), lambda z: grid.upsample(z, 6), val)["distortion"]
    assert readable < flipped < bilinear


def everything(compress, decompress, train, val, k):
    return measure(compress, decompress, val) | {"ridge": ridge_distortion(compress, train, [val], 6, k)[0]}


@pytest.mark.slow
def test_original_tokens_rank_above_every_compression_in_every_metric():
    train, val = batches(), batches(seed=1)
    best = everything(lambda x: x, lambda z: z, train, val, 6)
    assert best["ridge"] == pytest.approx(0, abs=1e-9)
    for k in (1, 2, 3, 5):
        for compress in (grid.pool, grid.strided, grid.resize):
            found = everything(lambda x, f=compress, k=k: f(x, k), lambda z: grid.upsample(z, 6), train, val, k)
            assert found["distortion"] > best["distortion"] and found["ridge"] > best["ridge"]
            assert found["cosine"] < best["cosine"]
    pooled = everything(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), train, val, 3)
    assert pooled["perception"] > best["perception"] + 0.01


def test_distortion_cosine_and_ridge_do_not_depend_on_the_basis_of_the_channels():
    train, val = batches(), batches(seed=1)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3))).Q
    found = [
        everything(
            lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), [x @ r for x in train], [x @ r for x in val], 3
        )
        for r in (torch.eye(5), rotation)
    ]
    for name in ("distortion", "cosine", "ridge"):
        assert found[0][name] == pytest.approx(found[1][name], abs=1e-5)


def test_cosine_ignores_the_length_of_a_reconstruction_and_distortion_does_not():
    val = batches(seed=1)
    short, long = (
        measure(lambda x: grid.pool(x, 3), lambda z, scale=scale: scale * grid.upsample(z, 6), val)
        for scale in (0.25, 2.0)
    )
    assert short["cosine"] == pytest.approx(long["cosine"], abs=1e-6)
    assert short["distortion"] != pytest.approx(long["distortion"], abs=0.01)


def test_no_metric_depends_on_the_order_of_the_images_beyond_the_sample_that_perception_draws():
    val = torch.cat(batches(images=400, seed=1))
    order = torch.randperm(len(val), generator=torch.Generator().manual_seed(0))
    found = [
        measure(lambda x: grid.pool(x, 3), lambda z: grid.upsample(z, 6), list(x.split(50))) for x in (val, val[order])
    ]
    assert found[0]["distortion"] == pytest.approx(found[1]["distortion"], abs=1e-6)
    assert found[0]["cosine"] == pytest.approx(found[1]["cosine"], abs=1e-6)
    assert found[0]["perception"] == pytest.approx(found[1]["perception"], rel=0.1)
