"""Training-free compressors against independent computations."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from toconv import grid
from toconv.models import linear_code
from toconv.models.baselines import Fitting, fit_baselines
from toconv.models.linear_code import fit_linear_code

NAMES = {
    "random",
    "strided",
    "pool",
    "pool_bilinear",
    "pool_rescaled",
    "pca",
    "mixing_0.25",
    "mixing_0.5",
    "mixing_0.75",
}


class Images:
    """Standardised images with structure in space, in batches."""

    def __init__(self, images=60, g=12, c=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(images, 16, c, generator=generator)
        x = grid.resize(coarse, g) + 0.3 * torch.randn(images, g * g, c, generator=generator)
        self.x, self.images = (x - x.mean((0, 1))) / x.std((0, 1)), images

    def __iter__(self):
        return iter(self.x.split(7))


def fitted(data, k):
    return fit_baselines(Fitting(data, 12, k, fit_linear_code(data, 12, k)))


def fvu(x, y):
    return ((x - y).square().sum() / x.square().sum()).item()


@pytest.mark.parametrize("k", [3, 4, 6])
def test_per_block_pca_equals_sklearns(k):
    data = Images()
    baseline, s = fit_linear_code(data, 12, k), 12 // k
    blocks = grid.space_to_depth(data.x, s).flatten(0, 1).numpy()
    exact = PCA(4, svd_solver="full").fit(blocks)
    reference = torch.from_numpy(exact.inverse_transform(exact.transform(blocks))).view(60, k * k, -1)
    expected = fvu(data.x, grid.depth_to_space(reference, s))
    assert fvu(data.x, baseline.decompress(baseline.compress(data.x))) == pytest.approx(expected, abs=1e-4)


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


@pytest.mark.parametrize("shape", [(300, 60), (60, 300), (900, 700), (700, 900)])
def test_pca_keeps_as_much_variance_as_the_leading_singular_vectors(shape):
    """The first two shapes take the exact way, the last two the iterative one."""
    count, generator = 12, torch.Generator().manual_seed(1)
    assert (min(shape) > 2 * linear_code.STEPS * -(-count // linear_code.SHARE)) == (min(shape) >= 700)
    spectrum = torch.arange(1, min(shape) + 1) ** -0.7  # slow: the last directions hardly differ
    left, right = (torch.linalg.qr(torch.randn(n, min(shape), generator=generator)).Q for n in shape)
    x = (left * spectrum) @ right.T
    basis = linear_code._principal(x, count)
    torch.testing.assert_close(basis.T @ basis, torch.eye(count), atol=1e-4, rtol=0)
    best = np.linalg.svd(x.double().numpy(), compute_uv=False)[:count]
    assert float((x @ basis).square().sum()) == pytest.approx((best**2).sum(), rel=1e-5)
    assert (x @ basis).norm(dim=0).numpy() == pytest.approx(best, rel=2e-3)


@pytest.mark.parametrize("rank", [0, 1, 5, 40])
def test_pca_of_fewer_directions_than_are_asked_for_keeps_everything(rank):
    """More blocks than directions, as where all pictures are alike: the iteration runs out of new ones."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(700, rank, generator=generator) @ torch.randn(rank, 900, generator=generator)
    basis = linear_code._principal(x, 48)
    assert min(x.shape) > 2 * linear_code.STEPS * 8
    torch.testing.assert_close(x @ basis @ basis.T, x, atol=2e-3, rtol=1e-3)


def test_pca_on_a_share_of_the_blocks_stays_near_the_whole(monkeypatch):
    data = Images(images=200)
    whole = fit_linear_code(data, 12, 4)
    monkeypatch.setattr(linear_code, "MOST_NUMBERS", 200 * 12 * 12 * 4 // 4)
    share = fit_linear_code(data, 12, 4)
    found = [fvu(data.x, b.decompress(b.compress(data.x))) for b in (whole, share)]
    assert found[0] <= found[1] < found[0] + 0.03


def test_a_block_of_equal_tokens_becomes_a_token_of_the_same_size_under_pca():
    data = Images()
    flat = grid.nearest(grid.pool(data.x, 4), 12)
    data.x = flat  # blocks that pooling holds whole
    z = fit_linear_code(data, 12, 4).compress(flat)
    torch.testing.assert_close(z, grid.pool(flat, 4), atol=1e-3, rtol=1e-3)


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
