"""The DCT's low frequencies against scipy's transform."""

import pytest
import torch
from scipy.fft import dctn, idctn

from tests.models.images import Images, fvu
from toconv import grid
from toconv.models.frequencies import from_low_frequencies, low_frequencies


def by_scipy(x, k):
    """Orthonormal DCT-II, cut, and the inverse of that size."""
    g = grid.side(x)
    found = dctn(x.unflatten(1, (g, g)).double().numpy(), axes=(1, 2), norm="ortho")[:, :k, :k]
    return found, torch.from_numpy(idctn(found, axes=(1, 2), norm="ortho") * k / g).float().flatten(1, 2)


@pytest.mark.parametrize("k", [1, 3, 5, 11])
def test_tokens_are_the_inverse_of_the_lowest_frequencies_at_the_size_of_a_token(k):
    x = Images().x
    _, expected = by_scipy(x, k)
    torch.testing.assert_close(low_frequencies(x, k), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(low_frequencies(torch.ones(1, 144, 2), k), torch.ones(1, k * k, 2))


@pytest.mark.parametrize("k", [1, 3, 5, 11])
def test_what_is_restored_has_these_frequencies_and_no_others(k):
    x = Images().x
    y = from_low_frequencies(low_frequencies(x, k), 12)
    low, _ = by_scipy(x, k)
    frequencies = torch.from_numpy(dctn(y.unflatten(1, (12, 12)).double().numpy(), axes=(1, 2), norm="ortho"))
    expected = torch.zeros_like(frequencies)
    expected[:, :k, :k] = torch.from_numpy(low)
    torch.testing.assert_close(frequencies, expected, rtol=1e-4, atol=1e-4)
    lost = x.square().sum() - torch.from_numpy(low).square().sum()
    assert fvu(x, y) == pytest.approx((lost / x.square().sum()).item(), rel=1e-4)
    torch.testing.assert_close(low_frequencies(y, k), low_frequencies(x, k), rtol=1e-4, atol=1e-5)
