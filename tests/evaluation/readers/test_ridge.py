"""The dual ridge against the primal one, and against fits that did not see a picture."""

import pytest
import torch
from sklearn.linear_model import Ridge

from toconv.evaluation.readers import ridge
from toconv.evaluation.readers.ridge import PENALTIES, KernelRidge


def drawn(images=24, features=40, targets=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images, features, generator=generator) + torch.randn(features, generator=generator)
    return x, x[:, :targets] + x[:, targets : 2 * targets].square() + 5


def scale(x):
    """The mean eigenvalue of the centred kernel."""
    return ((x - x.mean(0)).double().square().sum() / len(x)).item()


def test_the_dual_fit_is_scikit_learns_ridge_at_its_penalty():
    x, y = drawn()
    others, _ = drawn(seed=1)
    found = KernelRidge.fit(x, y, crops=4)
    reference = Ridge(alpha=found.penalty * scale(x), solver="svd").fit(x.double().numpy(), y.double().numpy())
    expected = torch.from_numpy(reference.predict(others.double().numpy())).float()
    assert torch.allclose(found.predict(others), expected, atol=1e-3)


@pytest.mark.parametrize("crops", [1, 4])
def test_the_penalty_is_the_best_of_fits_that_leave_out_one_picture_at_a_time(crops):
    x, y = drawn()
    left = []
    for penalty in PENALTIES.tolist():
        error = 0.0
        for first in range(0, len(x), crops):
            out = torch.zeros(len(x), dtype=torch.bool)
            out[first : first + crops] = True
            model = Ridge(alpha=penalty * scale(x), solver="svd").fit(
                x[~out].double().numpy(), y[~out].double().numpy()
            )
            error += ((model.predict(x[out].double().numpy()) - y[out].double().numpy()) ** 2).sum()
        left.append(error)
    assert KernelRidge.fit(x, y, crops).penalty == PENALTIES[int(torch.tensor(left).argmin())]


def test_features_in_parts_give_the_same_fit(monkeypatch):
    x, y = drawn()
    whole = KernelRidge.fit(x, y, 2).predict(x)
    monkeypatch.setattr(ridge, "CHUNK", 7)
    assert torch.allclose(KernelRidge.fit(x, y, 2).predict(x), whole, atol=1e-4)


def test_features_that_are_all_alike_give_the_mean():
    x, y = torch.ones(8, 5), torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(KernelRidge.fit(x, y, 2).predict(x), y.mean(0).expand(8, 2), atol=1e-5)
