"""How much a setting matters, of trials whose objective is a known function of them."""

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from toconv.sweep.search.importances import FEWEST, MOST, importances

OBJECTIVES = {"distortion": "minimize", "embedding_agreement": "maximize"}
POINTS = [{"a": a / 8, "b": b / 8} for a in range(8) for b in range(8)]


def trials(first, state=TrialState.COMPLETE, points=POINTS):
    """Of which the first objective is `first` of a point, and the second goes by b alone."""
    ranges = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
    given = {"state": state, "distributions": ranges}
    return [create_trial(values=[first(p), p["b"]], params=p, **given) for p in points]


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_shares_are_those_of_the_first_objectives_variance(weight):
    """Of an even grid a + weight·b has the variance of a, and weight² times that of b."""
    found = importances(trials(lambda p: p["a"] + weight * p["b"]), OBJECTIVES)
    assert sum(found.values()) == pytest.approx(1)
    assert found["b"] == pytest.approx(weight**2 / (1 + weight**2), abs=0.05)


def test_of_many_trials_the_shares_of_some_are_near_those_of_all():
    """Of an even grid once more, of 2,500 points."""
    points = [{"a": a / 50, "b": b / 50} for a in range(50) for b in range(50)]
    found = importances(trials(lambda p: p["a"] + 2 * p["b"], points=points), OBJECTIVES)
    assert len(points) >= 10 * MOST and found["b"] == pytest.approx(0.8, abs=0.06)


def test_only_complete_trials_count_and_too_few_say_nothing():
    complete, pruned = trials(lambda p: p["a"]), trials(lambda p: p["b"], TrialState.PRUNED)
    assert importances(complete + pruned, OBJECTIVES) == importances(complete, OBJECTIVES)
    assert importances(complete[: FEWEST - 1] + pruned, OBJECTIVES) is None


def test_without_variance_there_is_nothing_to_share_out():
    assert importances(trials(lambda p: 0.5), OBJECTIVES) is None


def test_the_same_trials_give_the_same_shares():
    found = [importances(trials(lambda p: p["a"] * p["b"]), OBJECTIVES) for _ in range(2)]
    assert found[0] == found[1]
