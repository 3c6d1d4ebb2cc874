"""Trials for more epochs, asked for from outside: on real ledgers, inboxes and folders."""

import csv
import time

import pytest

from tests.sweep.grown import LAMBDA, TOKENS, Grown, K, measured
from toconv import checkpoint
from toconv.analysis.records import Kind, State
from toconv.sweep.inbox import Act, Inbox, Verdict, request
from toconv.sweep.requests import refusal
from toconv.sweep.running import Announcement
from toconv.sweep.status import lines, look
from toconv.sweep.steering import Steering
from toconv.sweep.terminal.display import Display
from toconv.sweep.terminal.utilization import Utilization
from toconv.training.epochs import Epoch
from toconv.training.identity import trial_id

SEARCH = {LAMBDA: {"low": 1, "high": 100}}


class Extending(Grown):
    def end(self, proposal):
        rows = [Epoch(1, 1000, 1.0, measured(proposal.params)).as_row()]
        checkpoint.save(self.paths.trial(proposal.trial_id).latest, {"epochs": rows})
        super().end(proposal)

    def ask(self, act=Act.EXTEND, **about):
        asked = request(act, **about)
        Inbox(self.paths).post(asked)
        Steering(self.driver).poll(now=True)
        answer = Inbox(self.paths).answer(asked.id)
        return answer.verdict, answer.says


@pytest.fixture
def sweep(tiny, tmp_path, ledger_in):
    made = Extending(
        tmp_path, tiny, ledger_in, grid={K: [2, 3]}, search=SEARCH, trials=3, objectives={"distortion": "minimize"}
    )
    made.first = made.run()
    return made


def best(sweep, cell):
    return min((p for p in sweep.first if p.cell == cell), key=lambda p: p.params[LAMBDA])


def test_the_best_of_each_cell_go_on_from_their_ends_as_trials_of_their_own(sweep):
    verdict, says = sweep.ask(count=5, trials=("best:1",))
    assert (verdict, says) == (Verdict.DONE, "next to begin: extended/0, extended/1")
    for cell in ("k=2", "k=3"):
        proposal, of = sweep.driver.next_proposal(), best(sweep, cell)
        assert (proposal.extends, proposal.from_epoch) == (of.trial_id, 3)
        assert proposal.params == {**of.params, "training.epochs": 5}
        inputs = sweep.driver.inputs(proposal)
        assert inputs.extends == (str(sweep.paths.trial(of.trial_id).latest), 3)
        assert inputs.settings["training"]["epochs"] == 5
        settings = sweep.driver.sweep.settings(proposal.params)
        assert proposal.trial_id == trial_id(settings, TOKENS, of.trial_id) != trial_id(settings, TOKENS)
        sweep.end(proposal)
    assert sweep.driver.next_proposal() is None and sweep.driver.planned() == 8


def test_results_and_records_say_what_an_extension_is(sweep):
    sweep.ask(count=5, trials=(best(sweep, "k=2").name,))
    sweep.end(sweep.driver.next_proposal())
    sweep.ask(count=5, trials=(best(sweep, "k=2").trial_id,), anew=True)
    anew = sweep.driver.next_proposal()
    assert sweep.driver.inputs(anew).extends is None
    assert anew.trial_id == trial_id(sweep.driver.sweep.settings(anew.params), TOKENS)
    sweep.end(anew)
    sweep.driver.write_results({})
    with sweep.paths.results.open() as file:
        found = [row for row in csv.DictReader(file) if row["kind"] == "extended"]
    of = best(sweep, "k=2").trial_id
    assert [row["extension"] for row in found] == [
        f"5 epochs: from the end of {of}, epoch 3, with the schedule begun anew",
        f"5 epochs: as {of}, anew from the start",
    ]
    assert all(row["steered"].startswith("extended by ") for row in found)
    records = [r for r in sweep.driver.records() if r.kind is Kind.EXTENDED]
    assert len(records) == 2 and not any(r.is_complete_trial for r in records)


def test_whoever_looks_sees_its_own_epochs_and_how_long_these_take(sweep):
    sweep.ask(count=5, trials=(best(sweep, "k=2").name,))
    proposal = sweep.driver.next_proposal()
    Announcement(sweep.paths, 3).tell(planned=sweep.driver.planned(), left=sweep.driver.left(), slots=1)
    epoch = Epoch(4, time.time_ns() // 1_000_000, 400.0, measured(proposal.params))
    folder = sweep.paths.trial(proposal.trial_id)
    folder.folder.mkdir(parents=True)
    folder.metrics.write_text(epoch.as_line())
    sweep.driver.progressed(proposal, epoch)
    status = look(sweep.paths)
    assert [(t.epoch, t.epochs) for t in status.open] == [(4, 5)] and status.open[0].seconds_left > 90
    assert status.seconds_left == pytest.approx((6 + 400) / (6 + 4)), "one epoch more, at the mean pace of all"
    assert any("epoch 4/5, " in line for line in lines(status))
    shown = Display(sweep.driver, Utilization(dict)).view(sweep.trials()).lines[0]
    assert shown.epoch == "4/5" and shown.state in {"1 min 40 s left", "1 min 39 s left"}


def test_extensions_count_for_no_cell_and_are_on_no_front(sweep):
    sweep.ask(count=5, trials=("best:9",), anew=True)
    extended = [sweep.driver.next_proposal() for _ in range(6)]
    for proposal in extended:
        sweep.end(proposal)
    trials = sweep.driver.ledger.trials()
    assert not {p.trial_id for p in extended} & sweep.driver.front(trials)
    assert all(sweep.driver.missing(cell) == 0 for cell in ("k=2", "k=3"))
    assert all(sweep.paths.trial(p.trial_id).latest.exists() for p in extended), "whoever asks for them wants them"


def test_the_checkpoint_that_one_begins_at_stays_until_it_has_ended(sweep):
    of = best(sweep, "k=2")
    sweep.ask(count=5, trials=(of.name,))
    proposal = sweep.driver.next_proposal()
    sweep.ask(Act.ADD, params={K: 2, LAMBDA: 1.0})  # better, so that the front has no more need of it
    sweep.end(sweep.driver.next_proposal())
    assert sweep.paths.trial(of.trial_id).latest.exists()
    sweep.end(proposal)
    assert not sweep.paths.trial(of.trial_id).latest.exists()


def test_once_is_enough_and_an_extension_can_be_extended(sweep):
    of = best(sweep, "k=2").name
    sweep.ask(count=5, trials=(of,))
    sweep.end(sweep.driver.next_proposal())
    verdict, says = sweep.ask(count=5, trials=(of,))
    assert verdict is Verdict.REFUSED and "has every such trial already" in says
    assert sweep.ask(count=7, trials=("extended/0",))[0] is Verdict.DONE
    assert sweep.driver.next_proposal().from_epoch == 5


def test_a_driver_killed_between_two_extensions_enters_the_other_one_and_none_twice(sweep, monkeypatch):
    asked = request(Act.EXTEND, count=5, trials=("best:1",))
    Inbox(sweep.paths).post(asked)
    enter, entered = sweep.driver.ledger.propose_extended, []

    def once(*about):
        if entered:
            raise KeyboardInterrupt
        entered.append(enter(*about))
        return entered[0]

    monkeypatch.setattr(sweep.driver.ledger, "propose_extended", once)
    with pytest.raises(KeyboardInterrupt):
        Steering(sweep.driver).poll(now=True)
    sweep.start(grid={K: [2, 3]}, search=SEARCH, trials=3, objectives={"distortion": "minimize"})
    Steering(sweep.driver).poll(now=True)
    answer = Inbox(sweep.paths).answer(asked.id)
    assert answer.says == "next to begin: extended/0, extended/1"
    assert [t.proposal.name for t in sweep.trials() if t.proposal.extends] == ["extended/0", "extended/1"]


def test_extensions_stay_when_the_sweeps_file_changes(sweep):
    sweep.ask(count=5, trials=("best:1",))
    sweep.end(sweep.driver.next_proposal())
    before = [(t.proposal.trial_id, t.proposal.extends, t.state) for t in sweep.trials() if t.proposal.extends]
    sweep.start(grid={K: [3]}, search={LAMBDA: {"low": 1, "high": 50}}, trials=3)
    after = [t for t in sweep.trials() if t.proposal.extends]
    assert [(t.proposal.trial_id, t.proposal.extends, t.state) for t in after] == before
    assert {t.state for t in after} == {State.COMPLETE, State.RUNNING}


def test_what_breaks_a_rule_is_refused_by_whoever_asks_too(sweep):
    known = [(t.proposal.name, t.proposal.trial_id, t.state) for t in sweep.trials()]
    for about, told in (
        ({"count": 3, "trials": ("best:1",)}, "--epochs 3: must be more than the 3"),
        ({"count": 5, "trials": ("best:0",)}, "--trials best:0: must be best:N or complete trials, which are k=2/0"),
        ({"count": 5, "trials": ("k=2/9",)}, "--trials k=2/9: must be best:N"),
    ):
        verdict, says = sweep.ask(**about)
        assert verdict is Verdict.REFUSED and told in says
        assert told in refusal(request(Act.EXTEND, **about), sweep.driver.sweep, known)


def test_a_trial_whose_checkpoint_went_is_refused_and_may_begin_anew(sweep):
    worst = max((p for p in sweep.first if p.cell == "k=2"), key=lambda p: p.params[LAMBDA])
    verdict, says = sweep.ask(count=5, trials=(worst.name,))
    assert verdict is Verdict.REFUSED and "its checkpoint was not kept" in says
    assert sweep.ask(count=5, trials=(worst.name,), anew=True)[0] is Verdict.DONE


def test_an_extension_is_told_of_after_its_last_epoch(sweep):
    sweep.ask(count=5, trials=("best:1",))
    proposal = sweep.driver.next_proposal()
    sweep.driver.latest[proposal.trial_id] = Epoch(4, 0, 1.0, {"distortion": 0.1, "perception": 0.1})
    assert sweep.ask(Act.STOP, trial=proposal.name)[0] is Verdict.TAKEN, "it has an epoch to go"
