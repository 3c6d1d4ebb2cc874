"""Fronts and recommended trials of records whose answers are known."""

import pytest

from tests.records import OBJECTIVES, many, record
from toconv.analysis.pareto import against, front
from toconv.analysis.records import Kind, State


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_a_nested_loop_finds(seed):
    records = many(seed)
    expected = set()
    for a in records:
        beaten = False
        for b in records:
            x, y = (
                (a.tokens, a.values["distortion"], -a.values["cosine"]),
                (b.tokens, b.values["distortion"], -b.values["cosine"]),
            )
            beaten |= all(v <= u for u, v in zip(x, y, strict=True)) and x != y
        if not beaten:
            expected.add(a.trial_id)
    assert {r.trial_id for r in front(records, OBJECTIVES)} == expected


def test_only_complete_trials_stand_on_the_front():
    best = record("good", 16, 0.5)
    others = [
        record("pruned", 16, 0.1, state=State.PRUNED),
        record("pca", 16, 0.1, kind=Kind.BASELINE),
        *(record(state, 16, 0.1, state=state, values={}) for state in (State.RUNNING, State.FAILED)),
    ]
    assert front([best, *others], OBJECTIVES) == [best]


def test_a_trial_above_the_baseline_is_called_what_it_is():
    pool = record("pool", 16, 0.4, kind=Kind.BASELINE, name="pool")
    assert "NOT below average pooling (0.4000)" in against([record("a", 16, 0.5), pool], "pool")[0]
    assert "50.0 % below average pooling" in against([record("a", 16, 0.2), pool], "pool")[0]
