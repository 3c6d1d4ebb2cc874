"""Cells that have had trials enough, on a real ledger."""

import pytest

from tests.running import write_sweep
from toconv.errors import RequestError
from toconv.sweep.file import load_sweep
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.stopping import StopWhen

K = "model.compressor.output_grid_size"


@pytest.fixture
def ledger(tiny, tmp_path):
    def make(**changes):
        asked = {"stop_when": {"hypervolume_gain_below": "1 %", "over_trials": 3}, "sampler": "random", **changes}
        sweep = load_sweep(write_sweep(tmp_path, tiny, **asked), [])
        return Ledger(sweep, None, lambda params: repr(sorted(params.items())))

    return make


def run(ledger, values):
    """Complete trials of each cell with these distortions, as long as some are drawn; returns how many each had."""
    count = {}
    while proposal := ledger.propose({}):
        n = count.get(proposal.cell, 0)
        ledger.complete(
            proposal, {"distortion": values(proposal.cell, n), "perception": 0.5 - values(proposal.cell, n)}
        )
        count[proposal.cell] = n + 1
    return count


def test_a_cell_that_gains_no_more_begins_no_more_and_the_others_go_on(ledger):
    one = ledger(trials=12, objectives={"distortion": "minimize"})
    falling = {"k=2": lambda n: 1.0 - 0.2 * min(n, 3), "k=3": lambda n: 1.0 / (1 + n)}
    count = run(one, lambda cell, n: falling[cell](n))
    assert count == {"k=2": 7, "k=3": 12}, "three for the reference point, then until three in a row gained nothing"
    assert one.has_enough("k=2") and not one.has_enough("k=3") and one.missing("k=2") == 0


def test_without_it_every_trial_is_drawn(ledger):
    assert run(ledger(stop_when="none", trials=8), lambda cell, n: 0.5) == {"k=2": 8, "k=3": 8}


def test_more_trials_asked_for_do_not_begin_in_a_cell_that_has_enough(ledger):
    one = ledger(trials=9, objectives={"distortion": "minimize"})
    run(one, lambda cell, n: 1.0 - 0.2 * min(n, 3))
    assert one.propose({}) is None and one.course("k=2").gain(3) == 0.0


@pytest.mark.parametrize("text", ["0.5", "50 % of it", "0 %", "100 %", "-1 %", "nan %"])
def test_a_share_that_is_none_is_refused(tiny, tmp_path, text):
    asked = {"hypervolume_gain_below": text, "over_trials": 3}
    with pytest.raises(RequestError, match=r'stop_when.hypervolume_gain_below=.*must read "NUMBER %"'):
        load_sweep(write_sweep(tmp_path, tiny, stop_when=asked), [])


def test_a_number_of_trials_that_is_none_and_an_unknown_key_are_refused(tiny, tmp_path):
    for asked, told in (
        ({"hypervolume_gain_below": "1 %", "over_trials": 0}, "stop_when.over_trials=0"),
        (
            {"hypervolume_gain_below": "1 %", "over_trial": 3},
            "stop_when.over_trial: no such key; did you mean over_trials",
        ),
    ):
        with pytest.raises(RequestError, match=told):
            load_sweep(write_sweep(tmp_path, tiny, stop_when=asked), [])


def test_what_the_file_says_is_kept_as_it_is_read_again(tiny, tmp_path):
    path = write_sweep(tmp_path, tiny, stop_when={"hypervolume_gain_below": "0.5%", "over_trials": 12})
    asked = load_sweep(path, []).file.stop_when
    assert asked.share == 0.005 and StopWhen.model_validate(asked.model_dump(mode="json")) == asked
