"""The course of the hypervolume, beside counted boxes and a formula written plainly."""

import random

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from toconv.sweep.search.hypervolume import course
from toconv.sweep.stopping import MARGIN, Course, StopWhen

TWO = {"distortion": "minimize", "cosine": "maximize"}


def trials(values, violated=()):
    return [
        create_trial(values=list(v), state=TrialState.COMPLETE, constraints={"a": 1.0 if n in violated else 0.0})
        for n, v in enumerate(values)
    ]


def counted(costs, reference, low, steps=200):
    """The share of a fine lattice between `low` and the reference that some point is better than, times its volume."""
    axes = [a + (b - a) * (np.arange(steps) + 0.5) / steps for a, b in zip(low, reference, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    covered = np.zeros(len(lattice), dtype=bool)
    for cost in costs:
        covered |= (lattice >= cost).all(1)
    return covered.mean() * np.prod(np.subtract(reference, low))


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_volume_that_is_counted_box_by_box(seed):
    draw, first = random.Random(seed), 4
    values = [(draw.random(), draw.random()) for _ in range(9)]
    found = course(trials(values, violated={6}), TWO, first)
    costs = np.array([(a, -b) for a, b in values])
    worst, best = costs[:first].max(0), costs[:first].min(0)
    reference = worst + MARGIN * (worst - best)
    assert dict(found.reference) == pytest.approx({"distortion": reference[0], "cosine": -reference[1]})
    for n, volume in zip(range(first, 10), found.values, strict=True):
        counts = [c for i, c in enumerate(costs[:n]) if i != 6]
        assert volume == pytest.approx(counted(counts, reference, costs.min(0) - 0.01), rel=0.03)
    assert list(found.values) == sorted(found.values), "what is covered stays covered"


def test_of_one_objective_it_is_the_distance_from_the_reference_point_to_the_best():
    found = course(trials([(3.0,), (1.0,), (2.0,), (0.5,)]), {"distortion": "minimize"}, 2)
    assert found.reference == pytest.approx({"distortion": 3.2})
    assert found.values == pytest.approx((2.2, 2.2, 2.7))


def test_before_so_many_are_complete_there_is_none():
    assert course(trials([(1.0, 1.0)]), TWO, 2) is None


def test_points_beyond_the_reference_point_add_nothing_and_equal_ones_no_volume():
    assert course(trials([(1.0, 1.0), (1.0, 1.0), (9.0, -9.0)]), TWO, 2).values == (0.0, 0.0)


@pytest.mark.parametrize(
    ("values", "over", "enough"),
    [
        ((1.0, 1.0), 2, False),  # too few
        ((1.0, 1.001, 1.002), 2, True),
        ((1.0, 1.0, 1.2), 2, False),
        ((1.0, 1.2, 1.2, 1.2), 2, True),
        ((0.0, 0.0, 0.0), 2, True),
    ],
)
def test_enough_is_where_the_last_trials_gained_less_than_is_asked_for(values, over, enough):
    asked = StopWhen(hypervolume_gain_below="0.5 %", over_trials=over)
    assert Course(over, {}, values).is_enough(asked) is enough
