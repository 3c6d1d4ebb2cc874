"""Window arithmetic against nested loops and torch's own pooling."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from toconv import grid

SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 23]


def tokens(g=24, c=3, b=2):
    return torch.randn(b, g * g, c, generator=torch.Generator().manual_seed(0))


def looped_cells(g, k):
    """Rows and columns of every cell, counted one by one from the definition."""
    cells = []
    for i in range(k):
        for j in range(k):
            rows = [r for r in range(g) if r + 1 > i * g / k and r < (i + 1) * g / k]
            columns = [c for c in range(g) if c + 1 > j * g / k and c < (j + 1) * g / k]
            cells.append([r * g + c for r in rows for c in columns])
    return cells


@pytest.mark.parametrize("k", SIZES)
def test_pooling_equals_a_loop_over_cells_and_torchs_adaptive_pooling(k):
    x = tokens()
    pooled = grid.pool(x, k)
    looped = torch.stack([x[:, cell].mean(1) for cell in looped_cells(24, k)], dim=1)
    torch.testing.assert_close(pooled, looped)
    reference = F.adaptive_avg_pool2d(x.view(2, 24, 24, 3).permute(0, 3, 1, 2), k).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(pooled, reference)


@pytest.mark.parametrize("k", SIZES)
def test_coverage_makes_a_sum_over_tokens_the_mean_over_cells_of_their_means(k):
    error = torch.rand(24 * 24, generator=torch.Generator().manual_seed(1))
    looped = sum(error[cell].mean() for cell in looped_cells(24, k)) / k**2
    torch.testing.assert_close(error @ grid.coverage(24, k), looped)


@pytest.mark.parametrize("k", [1, 5, 6, 23])
def test_random_tokens_come_from_their_own_cell_and_reach_all_of_it(k):
    x = torch.arange(24 * 24.0).view(1, -1, 1).expand(400, -1, 1)
    generator = torch.Generator().manual_seed(0)
    cells = grid.draw_cells(400, k, k * k, generator)
    drawn = grid.random_in_cell(x, k, cells, generator)[..., 0].long()
    for cell, members in enumerate(looped_cells(24, k)):
        seen = set(drawn[:, cell].tolist())
        assert seen <= set(members)
        assert len(seen) > 0.4 * min(len(members), 400)


def test_fewer_cells_than_there_are_give_tokens_of_the_asked_cells():
    x = torch.arange(24 * 24.0).view(1, -1, 1).expand(50, -1, 1)
    generator = torch.Generator().manual_seed(0)
    cells = grid.draw_cells(50, 6, 7, generator)
    assert cells.shape == (50, 7)
    drawn = grid.random_in_cell(x, 6, cells, generator)[..., 0].long()
    members = looped_cells(24, 6)
    assert all(int(drawn[i, j]) in members[int(cells[i, j])] for i in range(50) for j in range(7))


@pytest.mark.parametrize("k", SIZES)
def test_stages_go_down_to_k_by_whole_strides_where_k_divides(k):
    sides = [24, *grid.stages(24, k)]
    assert sides[-1] == k
    assert all(a > b for a, b in itertools.pairwise(sides))
    if 24 % k == 0:
        assert all(a % b == 0 for a, b in itertools.pairwise(sides))


def test_stages_are_those_of_the_documentation():
    assert grid.stages(24, 4) == [8, 4]
    assert grid.stages(24, 6) == [12, 6]
    assert grid.stages(24, 7) == [12, 7]
    assert grid.stages(24, 16) == [16]


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_space_to_depth_puts_each_block_side_by_side_and_back(stride):
    x = tokens(12)
    blocks = grid.space_to_depth(x, stride)
    side = 12 // stride
    for i in range(side):
        for j in range(side):
            expected = [x[:, (i * stride + a) * 12 + j * stride + b] for a in range(stride) for b in range(stride)]
            torch.testing.assert_close(blocks[:, i * side + j], torch.cat(expected, dim=-1))
    torch.testing.assert_close(grid.depth_to_space(blocks, stride), x)


@pytest.mark.parametrize("k", SIZES)
def test_nearest_gives_each_token_the_cell_that_holds_its_centre(k):
    owners = grid.nearest(torch.arange(float(k * k)).view(1, -1, 1), 24)[0, :, 0]
    for row in range(24):
        for column in range(24):
            expected = int((row + 0.5) * k / 24) * k + int((column + 0.5) * k / 24)
            assert owners[row * 24 + column] == expected


@pytest.mark.parametrize("k", SIZES)
def test_a_strided_token_lies_in_its_cell(k):
    chosen = grid.strided(torch.arange(24 * 24.0).view(1, -1, 1), k)[0, :, 0].long().tolist()
    assert all(token in cell for token, cell in zip(chosen, looped_cells(24, k), strict=True))


@pytest.mark.parametrize("k", SIZES)
def test_blocks_hold_each_token_and_give_the_grid_back(k):
    x = tokens()
    blocks = grid.blocks(x, k)
    s = -(-24 // k)
    assert blocks.shape == (2, k * k, s * s * 3)
    torch.testing.assert_close(grid.unblocks(blocks, 24), x)


@pytest.mark.parametrize("k", [5, 7, 16])
def test_a_repeated_token_comes_back_as_the_mean_of_its_copies(k):
    s = -(-24 // k)
    source = [int((j + 0.5) * 24 / (s * k)) for j in range(s * k)]
    y = torch.randn(1, (s * k) ** 2, 2, generator=torch.Generator().manual_seed(0))
    found = grid.unblocks(grid.space_to_depth(y, s), 24)[0].view(24, 24, 2)
    square = y.view(s * k, s * k, 2)
    for row in (0, 1, 11, 23):
        for column in (0, 5, 23):
            copies = [
                square[a, b] for a, i in enumerate(source) for b, j in enumerate(source) if (i, j) == (row, column)
            ]
            torch.testing.assert_close(found[row, column], torch.stack(copies).mean(0))


@pytest.mark.parametrize("operation", [grid.strided, grid.nearest])
def test_a_first_call_without_gradients_leaves_later_gradients_alone(operation):
    with torch.inference_mode():
        operation(tokens(6), 11)
    x = tokens(6).requires_grad_(True)
    operation(x, 11).sum().backward()
    assert x.grad is not None


def test_a_first_call_for_shapes_alone_leaves_later_values_alone():
    with torch.device("meta"):
        assert grid.strided(torch.empty(1, 49, 2), 3).shape == (1, 9, 2)
    assert grid.strided(tokens(7), 3).device.type == "cpu"
    assert grid.coverage(7, 3).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_neighbours_of_a_cell_are_those_around_it_and_beyond_the_edge_the_nearest(k):
    z_BMC = torch.randn(2, k * k, 3)
    found = grid.neighbours(z_BMC).unflatten(2, (9, 3))
    for row, column in itertools.product(range(k), repeat=2):
        for place, (down, right) in enumerate(itertools.product((-1, 0, 1), repeat=2)):
            r, c = min(max(row + down, 0), k - 1), min(max(column + right, 0), k - 1)
            assert torch.equal(found[:, row * k + column, place], z_BMC[:, r * k + c])
