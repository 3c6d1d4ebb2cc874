"""What a search may propose."""

import itertools

import pytest

from toconv.sweep.space import Distribution, active_only, points, size

AXES = {
    "a": Distribution(choices=[1, 2, 1]),
    "b": Distribution(choices=["x", None, [0.5, 1]], when={"a": 2}),
    "c": Distribution(low=0, high=2, type="int", when={"b": ["x"]}),
    "d": Distribution(choices=[True, False], when={"e": 3}),
}


@pytest.mark.parametrize("fixed", [{}, {"e": 3}, {"e": 4}])
def test_points_are_those_of_the_product_each_once_in_its_order(fixed):
    product = itertools.product(*(d.values() for d in AXES.values()))
    expected = [active_only(AXES, fixed, dict(zip(AXES, values, strict=True))) for values in product]
    found = list(points(AXES, fixed))
    assert found == [point for number, point in enumerate(expected) if point not in expected[:number]]
    assert size(AXES, fixed, 5) == 5 and size(AXES, fixed, 1000) == len(found)


def test_what_cannot_be_walked_is_not_enumerated():
    assert Distribution(low=0, high=1e9, type="int").values() is None
    assert Distribution(low=0, high=1e308, step=5e-324).values() is None
    assert size({"a": Distribution(low=0, high=1e9, type="int")}, {}, 7) == 7


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        ({"low": 0, "high": 1, "step": 0.1}, [0, 0.3, 1.0], [0.35, -0.1, 1.1, "0.3", True, None]),
        ({"low": 1, "high": 9, "step": 2, "type": "int"}, [1, 3, 9, 3.0], [2, 10, 3.5]),
        ({"low": 0, "high": 1e9, "type": "int"}, [0, 5, 10**9], [0.5, -1]),
        ({"low": 1, "high": 8, "type": "int", "log": True}, [3, 8], [2.5]),
        ({"choices": [None, [1, 2], "a"]}, [None, [1, 2], "a"], ["b", [1]]),
    ],
)
def test_a_value_to_start_with_is_one_that_could_be_proposed(distribution, inside, outside):
    made = Distribution(**distribution)
    assert all(map(made.allows, inside)) and not any(map(made.allows, outside))
