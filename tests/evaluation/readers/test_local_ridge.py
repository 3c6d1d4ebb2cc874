"""What is read by place, against scikit-learn's ridge for one place of a cell at a time."""

import pytest
import torch
from sklearn.linear_model import Ridge

from tests.models.images import Images
from toconv import grid
from toconv.evaluation.readers.local_ridge import PENALTIES, LocalRidge, features

FOLDS = torch.arange(60) * 3 // 60


def fitted(k, batch=7, images=None):
    x = (images or Images(g=6)).x
    return LocalRidge.fit(grid.pool(x, k), (x[:, :, :2] ** 3).split(batch), FOLDS, 6), x


def test_a_cells_features_are_its_token_the_mean_around_it_and_a_constant():
    z = Images(g=4, images=2).x
    found = features(z)
    inner = z.view(2, 4, 4, -1)[:, 0:3, 1:4].mean((1, 2))  # around row 1, column 2
    assert torch.allclose(found[:, 1 * 4 + 2], torch.cat([z[:, 6], inner, torch.ones(2, 1)], 1), atol=1e-5)
    corner = z.view(2, 4, 4, -1)[:, [0, 0, 1]][:, :, [0, 0, 1]].mean((1, 2))
    assert torch.allclose(found[:, 0, z.shape[-1] : -1], corner, atol=1e-5)


@pytest.mark.parametrize("k", [2, 3])
def test_each_place_of_a_cell_has_a_ridge_of_its_own(k):
    ridge, x = fitted(k)
    z, y, s = grid.pool(x, k), x[:, :, :2] ** 3, 6 // k
    rows = features(z).flatten(0, 1)[:, :-1].double().numpy()
    alpha = ridge.penalty * z.square().mean().item() * len(rows)
    for a, b in ((0, 0), (s - 1, 1)):
        index = [(i * s + a) * 6 + j * s + b for i in range(k) for j in range(k)]
        model = Ridge(alpha=alpha, solver="cholesky").fit(rows, y[:, index].flatten(0, 1).double().numpy())
        expected = torch.from_numpy(model.predict(rows)).float().view(len(x), k * k, -1)
        assert torch.allclose(ridge.predict(z)[:, index], expected, atol=1e-3)


@pytest.mark.parametrize("k", [1, 4, 6])
def test_the_fit_does_not_depend_on_the_batches_and_every_k_can_be_read(k):
    (one, x), (other, _) = fitted(k), fitted(k, batch=60)
    assert one.penalty == other.penalty
    assert torch.allclose(one.predict(grid.pool(x, k)), other.predict(grid.pool(x, k)), atol=1e-3)


def test_a_single_fold_takes_the_largest_penalty():
    x = Images(g=6).x
    found = LocalRidge.fit(grid.pool(x, 3), x.split(7), torch.zeros(60, dtype=torch.long), 6)
    assert found.penalty == max(PENALTIES)
