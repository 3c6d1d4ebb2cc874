"""Means over seeds, their intervals, and what is compared with them."""

import pytest

from tests.records import finalists, record
from toconv.analysis.seeds import TESTED, Estimate, best_at_each, compare, estimate, seed_groups, summarise
from toconv.evaluation.metrics import METRICS

DISTORTION = METRICS["distortion"]


def test_a_confidence_interval_is_students():
    found = estimate([1.0, 2.0, 4.5])
    deviation = (((1.5**2) + 0.5**2 + 2**2) / 2) ** 0.5
    assert found.mean == 2.5 and found.half_width == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-6)
    assert estimate([0.3]).half_width is None and str(estimate([0.3])) == "0.3000"


def test_finalists_are_summarised_by_their_trial():
    trial = record("a", 16, 0.5)
    (found,) = summarise([trial, *finalists("a", 0.2, 0.4)])
    assert found.trial is trial and found.seeds == 2 and set(found.metrics) == set(TESTED)
    assert found.metrics["test_distortion"].mean == pytest.approx(0.3)


def test_a_trial_that_was_trained_again_is_judged_by_its_fresh_seeds_alone():
    (found,) = seed_groups([record("a", 16, 0.1), *finalists("a", 0.3, 0.5)])
    assert found.estimate("distortion").mean == pytest.approx(0.4) and found.evidence == "2 fresh seeds"


def test_trials_that_differ_in_their_seed_alone_are_one_group():
    runs = [
        record(f"{w}{s}", 16, d, params={"loss.wgan_weight": w, "training.seed": s})
        for w, s, d in ((0.0, 0, 0.2), (0.0, 1, 0.4), (0.5, 0, 0.7))
    ]
    many_seeds, alone = seed_groups(runs)
    assert many_seeds.estimate("distortion").mean == pytest.approx(0.3) and many_seeds.evidence == "2 seeds"
    assert many_seeds.name == "wgan_weight=0" and alone.evidence == "one training"
    assert alone.estimate("distortion") == Estimate(0.7, None)


def test_the_best_is_sought_among_what_has_several_seeds_where_there_is_such():
    lucky = record("lucky", 16, 0.1, params={"loss.lambda_gp": 9.0})
    found = seed_groups([lucky, record("a", 16, 0.2), *finalists("a", 0.3, 0.5)])
    group, best = best_at_each(found, "distortion", DISTORTION)[16]
    assert group.trials[0].trial_id == "a" and best == group.estimate("distortion")
    group, best = best_at_each(seed_groups([lucky, record("a", 16, 0.2)]), "distortion", DISTORTION)[16]
    assert group.trials == (lucky,) and best == Estimate(0.1, None)


@pytest.mark.parametrize(
    "mean, half, lower, verdict",
    [
        (0.5, 0.1, True, "not separable"),
        (0.5, 0.05, True, "better"),
        (0.7, 0.05, True, "worse"),
        (0.7, 0.05, False, "better"),
        (0.5, None, True, "better"),
        (0.6, None, False, "not separable"),
    ],
)
def test_a_verdict_needs_an_interval_that_excludes_the_baseline(mean, half, lower, verdict):
    metric = next(m for m in METRICS.values() if m.lower_is_better == lower)
    assert compare(Estimate(mean, half), 0.59 if half else 0.6, metric) == verdict
