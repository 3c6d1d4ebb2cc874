"""Training-free compressors against independent computations."""

import pytest
import torch
from sklearn.decomposition import PCA

from toconv import grid
from toconv.models.baselines import fit_baselines, fit_pca


class Images:
    """Standardised images with structure in space, in batches."""

    def __init__(self, images=60, g=12, c=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(images, 16, c, generator=generator)
        x = grid.resize(coarse, g) + 0.3 * torch.randn(images, g * g, c, generator=generator)
        self.x, self.images = (x - x.mean((0, 1))) / x.std((0, 1)), images

    def __iter__(self):
        return iter(self.x.split(7))


def fvu(x, y):
    return ((x - y).square().sum() / x.square().sum()).item()


@pytest.mark.parametrize("k", [3, 4, 6])
def test_per_block_pca_equals_sklearns(k):
    data = Images()
    baseline, s = fit_pca(data, 12, k), 12 // k
    blocks = grid.space_to_depth(data.x, s).flatten(0, 1).numpy()
    exact = PCA(4, svd_solver="full").fit(blocks)
    reference = torch.from_numpy(exact.inverse_transform(exact.transform(blocks))).view(60, k * k, -1)
    expected = fvu(data.x, grid.depth_to_space(reference, s))
    assert fvu(data.x, baseline.decompress(baseline.compress(data.x))) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("k", [3, 4, 5, 7])
def test_no_baseline_beats_pca_on_the_images_it_was_fitted_on_where_k_divides(k):
    data = Images()
    found = {name: fvu(data.x, b.decompress(b.compress(data.x))) for name, b in fit_baselines(data, 12, k)}
    assert set(found) == {"pool", "strided", "pool_bilinear", "pca"}
    if 12 % k == 0:
        nearest = fvu(data.x, grid.nearest(grid.pool(data.x, k), 12))
        assert found["pca"] < min(nearest, found["strided"])
    assert all(0 < value < 2 for value in found.values())


@pytest.mark.parametrize("k", [1, 3, 5, 11])
def test_every_baseline_gives_k_times_k_tokens_of_the_same_width(k):
    data = Images()
    for _, baseline in fit_baselines(data, 12, k):
        z = baseline.compress(data.x)
        assert z.shape == (60, k * k, 4)
        assert baseline.decompress(z).shape == data.x.shape


def test_pooling_and_striding_are_torchs_own_operations():
    data = Images()
    named = dict(fit_baselines(data, 12, 3))
    square = data.x.view(60, 12, 12, 4).permute(0, 3, 1, 2)
    pooled = torch.nn.functional.avg_pool2d(square, 4).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(named["pool"].compress(data.x), pooled)
    torch.testing.assert_close(named["strided"].compress(data.x), data.x.view(60, 12, 12, 4)[:, 2::4, 2::4].flatten(1, 2))
