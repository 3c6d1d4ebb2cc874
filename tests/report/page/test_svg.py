"""Scales, ticks and labels of the page's plots."""

import itertools
import random

import pytest

from toconv.report.page.svg import Scale, around, spread


@pytest.mark.parametrize(
    "low, high, log",
    [(0.123, 0.987, False), (-3.0, 41.0, False), (0.001, 900.0, True), (2.0, 3.0, True), (1e-6, 2e-6, False)],
)
def test_ticks_are_round_numbers_that_lie_where_their_values_do(low, high, log):
    scale = Scale(low, high, 10.0, 110.0, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    for position, label in ticks:
        assert scale(float(label)) == pytest.approx(position, abs=0.01) and 10 - 1e-6 <= position <= 110 + 1e-6
        assert float(label) == float(f"{float(label):.2g}")


def test_a_scale_holds_equal_values_too():
    scale = around([0.5, 0.5], 0, 100)
    assert scale(0.5) == pytest.approx(50)
    assert around([0.0], 0, 100)(0.0) == pytest.approx(50)


def test_labels_are_moved_apart_as_little_as_can_be():
    assert spread([0, 30, 60], 10) == [0, 30, 60]
    assert spread([10, 10, 10], 10) == pytest.approx([0, 10, 20])
    draw = random.Random(0)
    values = sorted(draw.uniform(0, 50) for _ in range(6))
    places = spread(values, 9)
    cost = sum((p - v) ** 2 for p, v in zip(places, values, strict=True))
    assert all(b - a >= 9 - 1e-9 for a, b in itertools.pairwise(places))
    for _ in range(300):  # no other admissible places are nearer
        other = [p + draw.gauss(0, 2) for p in places]
        if all(b - a >= 9 for a, b in itertools.pairwise(other)):
            assert sum((p - v) ** 2 for p, v in zip(other, values, strict=True)) >= cost - 1e-9
