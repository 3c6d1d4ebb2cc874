"""What a critic compares, against loops over images and cells."""

import pytest
import torch

from toconv import grid
from toconv.settings import CriticSettings
from toconv.training.critic_samples import draw_critic_samples

G = 24


def critic(head, pairs="matched", count=4):
    return CriticSettings(head=head, pairs=pairs, width=8, layers=1, tokens_per_image=count)


def originals(images):
    """Tokens that say which image and which position they are."""
    return torch.stack(torch.meshgrid(torch.arange(images), torch.arange(G * G), indexing="ij"), -1).float()


def compressed(images, k):
    """Tokens that say which image and which cell they are."""
    return torch.stack(torch.meshgrid(torch.arange(images), torch.arange(k * k), indexing="ij"), -1).float()


def draw(settings, k, images=40, seed=0):
    x, z = originals(images), compressed(images, k)
    means = grid.pool(x, k) if settings.head == "conditional" else None
    return draw_critic_samples(settings, x, z, means, torch.Generator().manual_seed(seed))


def inside(position, cell, k):
    row, column = divmod(int(position), G)
    return all(
        first <= at < end
        for at, (first, end) in zip((row, column), (grid.window(i, G, k) for i in divmod(int(cell), k)), strict=True)
    )


@pytest.mark.parametrize("k", [1, 4, 5, 6, 7, 10, 16, 23])
@pytest.mark.parametrize("head", ["token", "conditional"])
def test_matched_samples_are_of_the_same_cell_of_the_same_image(head, k):
    samples = draw(critic(head), k)
    assert samples.real.shape == samples.fake.shape == (40 * min(4, k * k), 2)
    for (image, position), (same, cell) in zip(samples.real.tolist(), samples.fake.tolist(), strict=True):
        assert image == same and inside(position, cell, k)


def test_a_condition_is_the_mean_of_the_samples_own_cell():
    samples = draw(critic("conditional"), 6)
    means = grid.pool(originals(40), 6)
    expected = torch.stack([means[int(image), int(cell)] for image, cell in samples.fake])
    torch.testing.assert_close(samples.condition, expected)


@pytest.mark.parametrize("k", [1, 4, 5, 6, 7, 10, 16, 23])
def test_a_lattice_has_one_phase_an_image_and_the_cells_spacing(k):
    samples = draw(critic("grid"), k, images=300)
    assert samples.real.shape == samples.fake.shape == (300, k * k, 2) and samples.condition is None
    phases = set()
    for image, lattice in enumerate(samples.real):
        assert set(lattice[:, 0].tolist()) == {image}
        rows, columns = lattice[:, 1].long() // G, lattice[:, 1].long() % G
        starts = torch.tensor([grid.window(i, G, k)[0] for i in range(k)])
        row, column = rows.view(k, k) - starts[:, None], columns.view(k, k) - starts[None, :]
        assert len(set(row.flatten().tolist())) == len(set(column.flatten().tolist())) == 1
        assert all(inside(p, cell, k) for cell, p in enumerate(lattice[:, 1]))
        phases.add((int(row[0, 0]), int(column[0, 0])))
    assert len(phases) > 0.8 * min((G // k) ** 2, 200)


@pytest.mark.parametrize("head", ["token", "grid"])
def test_independent_pairs_are_the_same_samples_in_another_order(head):
    matched, independent = (draw(critic(head, pairs), 6) for pairs in ("matched", "independent"))
    torch.testing.assert_close(matched.fake, independent.fake)
    assert not torch.equal(matched.real, independent.real)
    assert sorted(matched.real.flatten(1).tolist()) == sorted(independent.real.flatten(1).tolist())
