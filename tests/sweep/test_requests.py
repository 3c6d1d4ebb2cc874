"""What can be asked of a sweep, and what is refused with the rule and the value."""

import pytest

from tests.running import write_sweep
from toconv.analysis.records import State
from toconv.errors import RequestError
from toconv.sweep.file import load_sweep
from toconv.sweep.inbox import Act, request
from toconv.sweep.requests import cell_of, refusal

K = "model.compressor.output_grid_size"
HEADS = {"choices": [2, 4], "when": {"model.decoder.kind": "attention"}}
SEARCH = {
    "loss.lambda_gp": {"low": 0.1, "high": 100, "log": True},
    "training.n_critic": {"low": 1, "high": 3},
    "model.decoder.kind": {"choices": ["conv", "attention"]},
    "model.decoder.heads": HEADS,
}
TRIALS = [("k=2/0", "aaaa", State.RUNNING), ("k=2/1", "bbbb", State.COMPLETE), ("k=3/0", "cccc", State.FAILED)]


@pytest.fixture
def sweep(tiny, tmp_path):
    return load_sweep(write_sweep(tmp_path, tiny, search=SEARCH), [])


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({K: 2}, None),
        ({K: 2, "loss.lambda_gp": 5, "training.n_critic": 3}, None),
        ({K: 3, "model.decoder.kind": "attention", "model.decoder.heads": 2}, None),
        ({"loss.lambda_gp": 5}, f"add: 2 cells have no value given; name one: {K} of 2, 3"),
        ({K: 5}, f"add: 0 cells have {K}=5; name one"),
        ({K: 2, "loss.lambda_gp": 1000}, "loss.lambda_gp=1000: lies outside what search.loss.lambda_gp allows"),
        ({K: 2, "training.n_critic": 1.5}, "training.n_critic=1.5: lies outside"),
        ({K: 2, "training.epochs": 9}, "training.epochs: is not searched; searched are loss.lambda_gp"),
        ({K: 2, "model.decoder.heads": 2}, "is searched only where model.decoder.kind=attention; give that too"),
        ({K: 2, "model.decoder.kind": "conv", "model.decoder.heads": 2}, "is searched only where"),
    ],
)
def test_a_trial_by_hand_is_one_that_the_search_could_propose_in_one_cell(sweep, params, told):
    found = refusal(request(Act.ADD, params=params), sweep, [])
    assert found is None if told is None else found.startswith(told) or told in found


@pytest.mark.parametrize(
    ("act", "about", "told"),
    [
        (Act.STOP, {"trial": "k=2/0"}, None),
        (Act.SKIP, {"trial": "aaaa"}, None),
        (Act.STOP, {"trial": "k=2/1"}, "--trial k=2/1: is complete; stop is for one that is running"),
        (Act.STOP, {"trial": "nope"}, "--trial nope: no such trial; running are k=2/0"),
        (Act.SKIP, {"trial": "cccc"}, "--trial cccc: is failed; skip is for one that is running"),
        (Act.RETRY, {}, None),
        (Act.RETRY, {"trial": "k=3/0"}, None),
        (Act.RETRY, {"trial": "k=2/0"}, "--trial k=2/0: is running; retry is for one that is failed"),
        (Act.SLOTS, {"count": 3}, None),
        (Act.SLOTS, {}, "slots: needs a number of trials at a time, at least 1"),
        (Act.PAUSE, {}, None),
        (Act.FINISH, {}, None),
    ],
)
def test_a_request_about_trials_is_about_one_that_is_there_and_stands_so(sweep, act, about, told):
    assert refusal(request(act, **about), sweep, TRIALS) == told


def test_without_a_failed_trial_there_is_nothing_to_retry(sweep):
    assert refusal(request(Act.RETRY), sweep, TRIALS[:2]) == "retry: no trial has failed"


def test_the_cell_is_found_by_what_is_enumerated(sweep):
    cell, rest = cell_of(sweep, {K: 3, "loss.lambda_gp": 1.0})
    assert (cell.name, rest) == ("k=3", {"loss.lambda_gp": 1.0})
    with pytest.raises(RequestError, match="2 cells"):
        cell_of(sweep, {})
