"""Rules between settings of a compressor."""

import pytest

from toconv import config
from toconv.errors import RequestError

COMPRESSOR = "model.compressor."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "resampler", "heads": 7}, "heads=7: must divide model.compressor.width=192 for kind=resampler"),
        ({"kind": "token_packer", "heads": 5}, "heads=5: must divide model.compressor.width=192 for kind=token_packer"),
        ({"kind": "abstractor", "width": 100}, "width=100: must be a multiple of 8 for kind=abstractor"),
        ({"kind": "merger", "blocks": 0}, "blocks=0: must be at least 1 for kind=merger"),
        ({"kind": "resampler", "blocks": 0}, "blocks=0: must be at least 1 for kind=resampler"),
    ],
)
def test_what_a_family_cannot_be_built_with_is_refused(given, said):
    with pytest.raises(RequestError) as caught:
        config.compose({COMPRESSOR + key: value for key, value in given.items()})
    assert list(caught.value.mistakes) == [f"{COMPRESSOR}{said}"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "nested"}, "grid_sizes=null: kind=nested needs every k that it serves"),
        ({"grid_sizes": [4, 6]}, "grid_sizes=[4,6]: is of kind=nested alone; kind=conv has model.compressor.output_gr"),
        ({"kind": "nested", "grid_sizes": [6, 4]}, "grid_sizes=[6,4]: must rise, each k once"),
        ({"kind": "nested", "grid_sizes": [6, 6]}, "grid_sizes=[6,6]: must rise, each k once"),
        ({"kind": "nested", "grid_sizes": [6, 24]}, "grid_sizes=[6,24]: each must be below the encoder's grid, 1 <= k"),
        (
            {"kind": "nested", "grid_sizes": [4, 8]},
            "output_grid_size=6: must be one of model.compressor.grid_sizes=[4,",
        ),
        ({"kind": "nested", "grid_sizes": []}, "grid_sizes=[]: "),
        ({"kind": "nested", "grid_sizes": [0, 6]}, "grid_sizes=0: "),
        ({"kind": "nested", "grid_sizes": 6}, "grid_sizes=6: "),
    ],
)
def test_the_sizes_of_a_nested_compressor_are_its_own_and_rise(given, said):
    with pytest.raises(RequestError) as caught:
        config.compose({COMPRESSOR + key: value for key, value in given.items()})
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{COMPRESSOR}{said}")


def test_a_nested_compressor_is_not_compiled():
    given = {"model.compressor.kind": "nested", "model.compressor.grid_sizes": [4, 6]}
    assert config.compose(given).model.compressor.sizes == (4, 6)
    with pytest.raises(RequestError, match="hardware.compile=true: kind=nested draws its k in each step"):
        config.compose({**given, "hardware.compile": True})


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "conv", "heads": 7, "width": 100, "blocks": 0},
        {"kind": "resampler", "width": 100, "heads": 7, "match": "flops"},
        {"kind": "abstractor", "width": 100, "blocks": 0, "match": "parameters"},
    ],
)
def test_what_it_does_not_read_or_what_is_found_for_it_is_not_refused(given):
    found = config.compose({COMPRESSOR + key: value for key, value in given.items()}).model.compressor
    assert {key: getattr(found, key) for key in given} == given
