"""The linear codes against their formulas written out in the blocks' own channels."""

import itertools

import pytest
import torch
from sklearn.decomposition import PCA

from tests.models.images import Images, fvu
from toconv import grid
from toconv.models import linear_fit
from toconv.models.linear_code import LinearCode
from toconv.models.linear_fit import SHRINKAGES, fit_linear_codes


def fitted(data, k, g=12, folds=4):
    return fit_linear_codes(data, data.folds(folds), g, k)


def left(code, x):
    """The share of the variance that the code does not hold."""
    return fvu(x, code.decompress(code.compress(x)))


def of_places(blocks_TD, channels):
    """Σ_P: what a block's places have in common, over all channels."""
    sigma_DD = torch.cov(blocks_TD.T.double(), correction=0)
    places = sigma_DD.shape[0] // channels
    return sigma_DD.view(places, channels, places, channels).diagonal(dim1=1, dim2=3).mean(-1)


def shrunk(blocks_TD, channels, shrinkage, sigma_PP):
    """(mean, (D, C) basis) of (1 − μ − ν)Σ + μ(Σ_P ⊗ I) + ν diag Σ, the diagonal along each axis of Σ_P and each
    principal axis of the channels there."""
    sigma_DD = torch.cov(blocks_TD.T.double(), correction=0)
    alike_DD = torch.kron(sigma_PP, torch.eye(channels, dtype=torch.float64))
    apart_DD = torch.zeros_like(sigma_DD)
    for axis_P in torch.linalg.eigh(sigma_PP).eigenvectors.T:
        along_DC = torch.kron(axis_P[:, None], torch.eye(channels, dtype=torch.float64))
        values, vectors = torch.linalg.eigh(along_DC.T @ sigma_DD @ along_DC)
        apart_DD += along_DC @ vectors @ values.diag() @ vectors.T @ along_DC.T
    mixed = (1 - sum(shrinkage)) * sigma_DD + shrinkage.alike * alike_DD + shrinkage.apart * apart_DD
    return blocks_TD.mean(0), torch.linalg.eigh(mixed).eigenvectors[:, -channels:].float()


def left_of(blocks_TD, mean_D, basis_DC):
    centred = blocks_TD - mean_D
    return (centred - centred @ basis_DC @ basis_DC.T).square().sum().item()


@pytest.mark.parametrize("k", [3, 4, 6])
def test_per_block_pca_equals_sklearns(k):
    data = Images()
    blocks = grid.blocks(data.x, k).flatten(0, 1).numpy()
    exact = PCA(4, svd_solver="full").fit(blocks)
    reference = torch.from_numpy(exact.inverse_transform(exact.transform(blocks))).view(60, k * k, -1)
    expected = fvu(data.x, grid.depth_to_space(reference, 12 // k))
    assert left(fitted(data, k).pca, data.x) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("k", [3, 4, 5])
def test_the_linear_code_is_that_of_the_shrunk_covariance(k):
    data = Images(12, c=6)
    codes = fitted(data, k)
    blocks_TD = grid.blocks(data.x, k).flatten(0, 1)
    mean_D, basis_DC = shrunk(blocks_TD, 6, codes.shrinkage, of_places(blocks_TD, 6))
    assert 0 < sum(codes.shrinkage) < 1
    z = codes.linear.compress(data.x)
    back = (z.flatten(0, 1) - codes.linear.shift_C) @ codes.linear.weight_CD * (-(-12 // k)) ** 2
    torch.testing.assert_close(back, (blocks_TD - mean_D) @ basis_DC @ basis_DC.T, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("images, k", [(12, 3), (30, 4), (30, 6)])
def test_the_shrinkage_is_the_one_that_leaves_least_of_the_folds_that_were_not_seen(images, k, monkeypatch):
    monkeypatch.setattr(linear_fit, "FOR_CHOICE", 100)  # all coordinates
    data = Images(images, c=6)
    fold_I, blocks_IMD = data.folds(3), grid.blocks(data.x, k)
    totals, sigma_PP = dict.fromkeys(SHRINKAGES, 0.0), of_places(blocks_IMD.flatten(0, 1), 6)
    for shrinkage, fold in itertools.product(SHRINKAGES, range(3)):
        seen, unseen = (blocks_IMD[mask].flatten(0, 1) for mask in (fold_I != fold, fold_I == fold))
        totals[shrinkage] += left_of(unseen, *shrunk(seen, 6, shrinkage, sigma_PP))
    assert fitted(data, k, folds=3).shrinkage == min(totals, key=totals.get)


@pytest.mark.parametrize("k", [1, 3, 4, 5])
def test_what_a_code_does_not_hold_of_a_block_comes_from_its_neighbours(k):
    data = Images()
    code = fitted(data, k).linear
    z = code.compress(data.x)

    def decode(z):
        return grid.unblocks((z - code.shift_C) @ code.weight_CD * code.s**2 + code.mean_D, 12)

    blocks = (z - code.shift_C) @ code.weight_CD * code.s**2 + code.mean_D
    smooth = grid.upsample(blocks.unflatten(-1, (code.s**2, 4)).mean(-2), 12)
    torch.testing.assert_close(
        code.decompress(z), smooth + decode(z) - decode(code.compress(smooth)), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(code.decompress(z, torch.ones(4)), code.decompress(z) + 1, atol=1e-5, rtol=1e-5)
    if 12 % k == 0:
        torch.testing.assert_close(code.compress(code.decompress(z)), z, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("k", [3, 4, 6])
def test_on_other_images_it_is_better_than_pca_and_more_images_never_make_it_worse(k):
    others = Images(200, seed=5, c=8).x
    found = [fitted(Images(images, seed=1, c=8), k) for images in (8, 16, 32, 64, 128, 256)]
    linear, pca = ([left(getattr(codes, name), others) for codes in found] for name in ("linear", "pca"))
    assert all(ours < theirs for ours, theirs in zip(linear, pca, strict=True))
    for values in (linear, pca):
        assert all(more < fewer * 1.01 for fewer, more in itertools.pairwise(values))


def test_fewer_coordinates_than_channels_of_a_block_stay_near_all_of_them(monkeypatch):
    data = Images(200, c=8)
    whole = fitted(data, 3)
    monkeypatch.setattr(linear_fit, "LEAST_COORDINATES", 1)  # 32 of 128
    few = fitted(data, 3)
    for name in ("pca", "linear"):
        assert left(getattr(few, name), data.x) == pytest.approx(left(getattr(whole, name), data.x), rel=0.02)


def test_how_the_tokens_come_in_batches_changes_nothing():
    few, many = fitted(Images(batch=7), 4), fitted(Images(batch=60), 4)
    assert few.shrinkage == many.shrinkage
    x = Images(5, seed=3).x
    for name in ("pca", "linear"):
        torch.testing.assert_close(
            getattr(few, name).decompress(getattr(few, name).compress(x)),
            getattr(many, name).decompress(getattr(many, name).compress(x)),
            atol=1e-4,
            rtol=1e-4,
        )


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_blocks_of_fewer_directions_than_channels_are_held_whole(rank):
    data, generator = Images(), torch.Generator().manual_seed(2)
    directions = torch.randn(rank, 9 * 4, generator=generator)
    blocks = torch.randn(60, 16, rank, generator=generator) @ directions
    data.x = grid.unblocks(blocks, 12)
    code = fitted(data, 4).pca
    torch.testing.assert_close(code.decompress(code.compress(data.x)), data.x, atol=2e-3, rtol=1e-3)


def test_with_a_single_fold_the_shrinkage_is_the_largest():
    assert fitted(Images(), 4, folds=1).shrinkage == max(SHRINKAGES, key=sum)


@pytest.mark.parametrize("name", ["pca", "linear"])
def test_a_block_of_equal_tokens_becomes_a_token_of_the_same_size(name):
    data = Images()
    flat = grid.nearest(grid.pool(data.x, 4), 12)
    data.x = flat  # blocks that pooling holds whole
    z = getattr(fitted(data, 4), name).compress(flat)
    torch.testing.assert_close(z, grid.pool(flat, 4), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("g", "k"), [(12, 1), (12, 2), (12, 3), (12, 4), (12, 5)])
def test_the_code_of_up_sampled_means_is_the_one_of_the_tokens_they_make(g, k):
    """In one product with nine means where blocks are larger than nine tokens, else with the tokens."""
    torch.manual_seed(0)
    code = LinearCode(4, g, k, completed=True)
    for buffer in code.buffers():
        buffer.normal_()
    means = torch.randn(2, k * k, 4, requires_grad=True)
    up = grid.upsample(means, g)
    found, expected = code._compress_upsampled(means, up), code.compress(up)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(found)
    ours, theirs = (torch.autograd.grad(z, means, direction, retain_graph=True)[0] for z in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
