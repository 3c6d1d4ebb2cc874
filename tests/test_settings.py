"""Every setting has a range with two ends, and refuses what no start could use."""

import math

import pytest

from toconv import config
from toconv.errors import RequestError

NUMBERS = {
    key: value
    for key, value in config.flat(config.compose({}).model_dump()).items()
    if isinstance(value, int | float | tuple) and not isinstance(value, bool)
}
OPTIONAL = (
    *("data.train_pictures", "data.val_pictures", "data.test_pictures"),
    *("hardware.threads", "loss.log_ratio", "training.micro_batch"),
)


def refused(key, value):
    with pytest.raises(RequestError) as caught:
        config.compose({key: value})
    return any(mistake.startswith(key) for mistake in caught.value.mistakes)


@pytest.mark.parametrize("key", [*NUMBERS, *OPTIONAL])
def test_no_number_is_taken_that_is_none_or_absurd(key):
    length = len(NUMBERS[key]) if isinstance(NUMBERS.get(key), tuple) else 0
    whole = isinstance(NUMBERS.get(key, 0), int) and key != "loss.log_ratio"
    for absurd in (math.nan, math.inf, -math.inf, -1e39, 1e39, *((10**12, -(10**12)) if whole else ())):
        assert refused(key, [absurd] * length if length else absurd), absurd


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encoder.std", [0, 0, 0]),
        ("encoder.std", [0.2, 0.2, 0]),
        ("encoder.std", [0.2, -0.2, 0.2]),
        ("encoder.std", [1e-40, 0.2, 0.2]),
        ("encoder.mean", [math.nan, 0, 0]),
        ("encoder.layer", 99999),
        ("encoder.name", ""),
        ("encoder.weights", ""),
        ("hardware.threads", 0),
        ("experiment.wandb_project", "a/b"),
        ("experiment.wandb_project", ""),
        ("loss.log_ratio", 400),
    ],
)
def test_what_would_fail_in_the_first_minute_is_refused(key, value):
    assert refused(key, value)
