import pytest
import torch

from benchmarks import training_step
from benchmarks.comparison import Ratio, in_turns, processor, ratio_of
from benchmarks.page import _row
from benchmarks.training_step import MIXED_FLOOR, without_fast_bf16

MIXED = Ratio("mixed precision against fp32", 0.7, MIXED_FLOOR, True, 0.0)


@pytest.mark.parametrize(
    ("fast", "rate", "applies"), [(False, 0.52, False), (False, 1.4, True), (True, 0.52, True), (True, 1.4, True)]
)
def test_a_floor_that_the_processor_forbids_is_not_applicable(monkeypatch, fast, rate, applies):
    """By its features and by a product: one of both alone is no excuse."""
    monkeypatch.setattr(training_step, "bf16_is_fast", lambda device: fast)
    found = without_fast_bf16(rate, MIXED)
    if applies:
        assert found == MIXED and found.meets is False and found.as_json()["not_applicable"] is None
        assert _row(found).endswith("| ≥ 1.25 | **not met** |")
    else:
        reason = f"bf16 products run at {rate:.2f} of fp32's rate on this CPU ({processor()})"
        assert found.meets is None and found.as_json() == MIXED.as_json() | {"not_applicable": reason, "meets": None}
        assert _row(found).endswith(f"| ≥ 1.25 | not applicable: {reason} |")


def test_a_ratio_is_the_median_over_rounds_and_says_whether_it_is_enough():
    found = ratio_of("a", [2.0, 9.0, 4.0], [1.0, 3.0, 1.0], 3.0, "b")
    assert found.ratio == 3.0 and found.meets is True and found.verdict == "met"
    assert ratio_of("a", [2.0], [1.0], 1.0, "b", higher_is_better=False).verdict == "not met"


def test_works_run_in_turns():
    seen = []
    times = in_turns(lambda: seen.append("a"), lambda: seen.append("b"), rounds=2, warm_up=1)
    assert seen == ["a", "b"] * 3 and [len(t) for t in times] == [2, 2]


def test_the_processor_is_named_with_its_features(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "A", "amx_bf16": True, "avx512_bf16": True})
    assert processor() == "A, AMX, AVX512-BF16"
