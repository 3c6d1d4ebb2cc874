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
    "given",
    [
        {"kind": "conv", "heads": 7, "width": 100, "blocks": 0},
        {"kind": "resampler", "width": 100, "heads": 7, "match": "flops"},
        {"kind": "abstractor", "width": 100, "blocks": 0, "match": "parameters"},
    ],
)
def test_what_it_does_not_read_or_what_is_found_for_it_is_not_refused(given):
    config.compose({COMPRESSOR + key: value for key, value in given.items()})
