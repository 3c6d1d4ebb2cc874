import pytest
from pydantic import ValidationError

from benchmarks.gpu.plain_settings import plain_settings
from toconv.config import compose


def test_the_plain_defaults_are_those_of_conf():
    assert plain_settings() == compose({})


def test_changes_are_by_name_and_checked():
    changed = plain_settings(model__compressor__output_grid_size=4, training__batch_size=2)
    assert changed == compose({"model.compressor.output_grid_size": 4, "training.batch_size": 2})
    with pytest.raises(ValidationError):
        plain_settings(training__batchsize=2)
