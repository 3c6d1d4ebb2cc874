"""What a search may propose: values as their settings hold them."""

import itertools

import pytest

from tests.running import write_sweep
from toconv import config
from toconv.errors import RequestError
from toconv.sweep.file import load_sweep
from toconv.sweep.space import Distribution, active_only, points, size

N = "training.n_critic"
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
    assert Distribution(low=0, high=1e300, step=1e292).values() is None
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


def loaded(tiny, tmp_path, **changes):
    return load_sweep(write_sweep(tmp_path, tiny, **changes), [])


@pytest.mark.parametrize(
    "key, given, values",
    [
        (N, {"low": 1, "high": 4}, [1, 2, 3, 4]),
        (N, {"low": 1, "high": 7, "step": 2}, [1, 3, 5, 7]),
        (N, {"low": 1, "high": 3, "type": "float"}, [1, 2, 3]),
        ("training.seed", {"low": 0, "high": 1}, [0, 1]),
        ("hardware.threads", {"low": 2, "high": 3}, [2, 3]),  # a whole number or null
        ("loss.lambda_gp", {"low": 1, "high": 2, "step": 0.5}, [1.0, 1.5, 2.0]),
    ],
)
def test_a_range_of_a_whole_number_setting_is_whole(tiny, tmp_path, key, given, values):
    found = loaded(tiny, tmp_path, search={key: given}).file.search[key].values()
    assert found == values and [type(v) for v in found] == [type(v) for v in values]


@pytest.mark.parametrize(
    "key, given, told",
    [
        (N, {"low": 1.5, "high": 4}, "whole numbers.*low=1.5"),
        (N, {"low": 1, "high": 4, "step": 0.5}, "whole numbers.*step=0.5"),
        (N, {"low": 1, "high": 1e300}, "2\\^53"),
        ("hardware.compile", {"low": 0, "high": 1}, "is no number"),
        ("model.decoder.kind", {"low": 0, "high": 1}, "is no number"),
        ("loss.log_ratio", {"low": -1e308, "high": 1e308}, "high - low"),
        ("training.n_critics", {"low": 1, "high": 4}, "no such setting"),
    ],
)
def test_a_range_that_its_setting_does_not_have_is_refused(tiny, tmp_path, key, given, told):
    with pytest.raises(RequestError, match=told):
        loaded(tiny, tmp_path, search={key: given})


@pytest.mark.parametrize(
    "key, values",
    [
        (N, [1, 1.0]),
        ("loss.lambda_gp", [1, 2, 1.0]),
        (N, [1, "1"]),
        ("training.betas", [[0, 0.9], [0.0, 0.90]]),
        ("hardware.compile", [True, 1]),
        ("loss.log_ratio", [None, None]),
    ],
)
def test_one_value_written_in_two_ways_is_given_twice(tiny, tmp_path, key, values):
    grid = {"model.compressor.output_grid_size": [3]}
    for changes in (
        {"grid": {**grid, key: values}, "search": {}},
        {"grid": grid, "search": {key: {"choices": values}}},
    ):
        with pytest.raises(RequestError, match="is given twice"):
            loaded(tiny, tmp_path, **changes)


@pytest.mark.parametrize(
    "loss, told",
    [
        ({"log_ratio": 400}, "loss.log_ratio=400: the weight of L_gen"),
        ({"log_ratio": 307.5, "ae_weight": 1e9}, "loss.ae_weight=1000000000.0"),
        ({"log_ratio": 310, "ae_weight": 1e-9}, "loss.log_ratio=310"),
        ({"log_ratio": -2, "ae_weight": 0}, "nothing would be trained"),
    ],
)
def test_a_weight_that_is_derived_has_a_weights_range(loss, told):
    from toconv.settings import LossSettings
    from toconv.training.losses import adversarial_weight

    given = {f"loss.{name}": value for name, value in loss.items()}
    with pytest.raises(RequestError, match=told):
        config.compose(given)
    allowed = config.compose({"loss.log_ratio": 37, "loss.ae_weight": 10.0}).loss
    assert isinstance(allowed, LossSettings) and adversarial_weight(allowed) == 1e38


@pytest.mark.parametrize("step", [1e-300, 5e-324, 1e-12])
def test_a_step_of_more_points_than_anybody_means_is_refused(step):
    with pytest.raises(ValueError, match="makes more than 1,000,000,000 points of low=0.0 to high=1.0; leave step out"):
        Distribution(low=0, high=1, step=step)
    assert Distribution(low=0, high=1, step=1e-8).values() is None
