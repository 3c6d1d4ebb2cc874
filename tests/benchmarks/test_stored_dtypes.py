import pytest

from benchmarks.stored_dtypes import told, turned


@pytest.mark.parametrize(
    ("now", "pairs"),
    [([1.0, 2.0, 3.0], 0), ([1.5, 2.5, 9.0], 0), ([2.0, 1.0, 3.0], 1), ([3.0, 2.0, 1.0], 3), ([1, 1, 3], 1)],
)
def test_pairs_that_change_their_order_are_counted(now, pairs):
    assert turned([1.0, 2.0, 3.0], now) == pairs


def test_the_largest_difference_is_told_with_its_sign_and_whose_it_is():
    rows = {"pool (36 tokens)": {"distortion": 0.5}, "k=6/0 (36 tokens)": {"distortion": 0.25}}
    other = {"pool (36 tokens)": {"distortion": 0.5001}, "k=6/0 (36 tokens)": {"distortion": 0.248}}
    (line,) = told({"fp16": rows, "int8": other})
    assert line == (
        "int8 against fp16, distortion: at most -0.002 (k=6/0 (36 tokens), 0.250000), over a range of 0.2500; 0 of 1 "
        "pairs change their order"
    )
