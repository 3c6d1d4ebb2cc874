"""Training-free compressors against independent computations."""

import pytest
import torch

from tests.models.images import Images, fvu
from toconv import grid
from toconv.models.baselines import Fitting, fit_baselines
from toconv.models.linear_fit import fit_linear_codes

NAMES = {
    "random",
    "strided",
    "pool",
    "pool_bilinear",
    "pool_rescaled",
    "pca",
    "linear",
    "dct",
    "tome",
    "divprune",
    "mixing_0.25",
    "mixing_0.5",
    "mixing_0.75",
}


def fitted(data, k):
    return fit_baselines(Fitting(data, 12, k, fit_linear_codes(data, data.folds(4), 12, k)))


@pytest.mark.parametrize("k", [3, 4, 5, 7])
def test_pca_beats_every_code_that_is_read_block_by_block_on_the_images_it_was_fitted_on(k):
    data = Images()
    found = {name: fvu(data.x, b.decompress(b.compress(data.x))) for name, b in fitted(data, k)}
    assert set(found) == NAMES
    if 12 % k == 0:
        blockwise = [fvu(data.x, grid.nearest(f(data.x, k), 12)) for f in (grid.pool, grid.strided)]
        assert found["pca"] < min(blockwise)
    assert all(0 < value < 2 for value in found.values())


@pytest.mark.parametrize("k", [1, 3, 5, 11])
def test_every_baseline_gives_k_times_k_tokens_of_the_same_width(k):
    data = Images()
    for _, baseline in fitted(data, k):
        z = baseline.compress(data.x)
        assert z.shape == (60, k * k, 4)
        assert baseline.decompress(z).shape == data.x.shape


def test_pooling_and_striding_are_torchs_own_operations():
    data = Images()
    named = dict(fitted(data, 3))
    square = data.x.view(60, 12, 12, 4).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.avg_pool2d(square, 4).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(named["pool"].compress(data.x), pooled)
    centres = data.x.view(60, 12, 12, 4)[:, 2::4, 2::4].flatten(1, 2)
    torch.testing.assert_close(named["strided"].compress(data.x), centres)


def test_rescaled_pooling_has_the_originals_variance_and_poolings_distortion():
    data = Images()
    named = dict(fitted(data, 3))
    z = named["pool_rescaled"].compress(data.x)
    torch.testing.assert_close(z.flatten(0, 1).std(0), torch.ones(4), atol=0.01, rtol=0)
    torch.testing.assert_close(
        named["pool_rescaled"].decompress(z),
        named["pool"].decompress(named["pool"].compress(data.x)),
        atol=1e-5,
        rtol=1e-5,
    )


def test_mixing_is_the_straight_line_from_pooled_to_strided():
    data = Images()
    named = dict(fitted(data, 3))
    pooled, strided = (named[name].compress(data.x) for name in ("pool", "strided"))
    torch.testing.assert_close(named["mixing_0.25"].compress(data.x), 0.75 * pooled + 0.25 * strided)


def test_a_random_token_is_the_same_for_an_image_in_any_batch():
    data = Images()
    compress = dict(fitted(data, 5))["random"].compress
    assert torch.equal(compress(data.x)[7:9], compress(data.x[7:9]))
