"""What to take, from records whose answers are known."""

import pytest

from tests.records import baselines, record
from toconv.analysis.advice import PURPOSES, advice


def values(distortion, agreement):
    grid = {"distortion_ridge": distortion + 0.01}
    return {"distortion": distortion, "perception": 0.1, "embedding_agreement": agreement, **grid}


def free(name, tokens, distortion, agreement):
    (found,) = baselines(tokens, **{name: distortion})
    found.values.update(values(distortion, agreement))
    return found


def of_seeds(name, *pairs, tokens=16):
    """Trainings that differ in their seed alone."""
    return [
        record(
            f"{name}{i}", tokens, 0, params={"loss.agreement_weight": name, "training.seed": i}, values=values(*pair)
        )
        for i, pair in enumerate(pairs)
    ]


def taken(records):
    return {(a.tokens, a.purpose): (a.take, a.trained) for a in advice(records)}


def test_each_number_of_tokens_has_one_answer_a_purpose():
    records = [record("a", 16, 0, values=values(0.3, 0.8)), record("b", 36, 0, values=values(0.2, 0.9))]
    assert list(taken(records)) == [(tokens, purpose) for tokens in (16, 36) for purpose in PURPOSES]


def test_fidelity_and_the_frozen_reader_may_ask_for_different_things():
    records = [
        record("near", 16, 0, params={"loss.agreement_weight": 0.1}, values=values(0.30, 0.80)),
        record("read", 16, 0, params={"loss.agreement_weight": 10.0}, values=values(0.35, 0.95)),
        free("linear", 16, 0.31, 0.79),
        free("strided", 16, 0.60, 0.90),
    ]
    assert taken(records) == {(16, "fidelity"): ("k/near", True), (16, "a frozen reader"): ("k/read", True)}


def test_what_costs_nothing_is_taken_where_no_training_is_better():
    records = [
        record("a", 16, 0, values=values(0.32, 0.85)),
        free("linear", 16, 0.31, 0.79),
        free("strided", 16, 0.60, 0.90),
    ]
    assert taken(records) == {(16, "fidelity"): ("linear", False), (16, "a frozen reader"): ("strided", False)}
    fidelity, reader = advice(records)
    assert "0.3100 without any training; the best training has 0.3200, which is worse" in fidelity.why
    assert "0.9000 without any training; the best training has 0.8500, which is worse" in reader.why


@pytest.mark.parametrize(
    ("pairs", "take"),
    [
        ([(0.30, 0.95), (0.30, 0.951), (0.301, 0.949)], "agreement_weight=7"),
        ([(0.20, 0.95), (0.30, 0.7), (0.401, 0.9)], "strided"),
    ],
)
def test_a_training_with_several_seeds_must_be_better_by_more_than_its_interval(pairs, take):
    found = taken([*of_seeds(7, *pairs), free("strided", 16, 0.6, 0.92)])
    assert found[16, "a frozen reader"][0] == take


def test_a_baseline_without_a_grid_is_not_taken_but_said_to_be_better():
    a_set = free("tome", 16, 0.2, 0.85)
    del a_set.values["distortion_ridge"]
    records = [record("a", 16, 0, values=values(0.30, 0.86)), free("linear", 16, 0.31, 0.79), a_set]
    fidelity, reader = advice(records)
    assert (fidelity.take, reader.take) == ("k/a", "k/a")
    assert fidelity.why.endswith("tome, a set of tokens in no grid, restored by what goes beside them, has 0.2000")
    assert "tome" not in reader.why, "the training is better than the set"


def test_what_was_given_as_a_loss_is_marked():
    (_, reader) = advice([*of_seeds(7, (0.3, 0.95), (0.3, 0.951), (0.301, 0.949)), free("strided", 16, 0.6, 0.92)])
    assert "†" in reader.why and reader.trained
