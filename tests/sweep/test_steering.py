"""What is asked of a sweep while it runs: on a real ledger and inbox, with trials that are stepped by hand."""

import json
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler

from tests.running import write_sweep
from toconv.analysis.records import State
from toconv.analysis.results import read_results
from toconv.errors import MachineryError
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.evaluating import Evaluating
from toconv.sweep.file import load_sweep
from toconv.sweep.inbox import Act, Inbox, Verdict, request
from toconv.sweep.leaving import Leaving
from toconv.sweep.steering import Steering
from toconv.sweep.tune.scheduler import CellScheduler
from toconv.sweep.tune.searcher import LedgerSearcher
from toconv.training.epochs import Epoch

K, LAMBDA = "model.compressor.output_grid_size", "loss.lambda_gp"
EPOCHS = 3


class Sweep:
    """A sweep in a folder; `driver` and `steering` are those of its latest start."""

    def __init__(self, folder, settings, **changes):
        self.paths = SweepPaths(folder / "outputs" / "tiny")
        self.paths.root.mkdir(parents=True)
        self._file = load_sweep(write_sweep(folder, settings, **{"grid": {K: [2]}, "trials": 3, **changes}), [])
        self.inbox, self.driver = Inbox(self.paths), None
        self.start()

    def start(self):
        """A new driver: the one before was killed, and its connections with it."""
        if self.driver:
            self.driver.ledger.close()
        self.driver = Driver(self._file, self.paths, self.paths.root, "f00d")
        self.driver.slots, self.steering = 2, Steering(self.driver)
        self.steering.most_slots = 2

    def post(self, act, **about):
        asked = request(act, **about)
        self.inbox.post(asked)
        return asked.id

    def ask(self, act, **about):
        """The answer's verdict, and what it says."""
        id_ = self.post(act, **about)
        self.steering.poll(now=True)
        return self.answer(id_)

    def answer(self, id_):
        answer = self.inbox.answer(id_)
        return answer.verdict, answer.says

    def step(self, proposal, epoch=1):
        """One more epoch of a trial, as a worker has it on the disk before anybody hears of it."""
        trial = self.paths.trial(proposal.trial_id)
        trial.folder.mkdir(parents=True, exist_ok=True)
        found = Epoch(epoch, 1000 * epoch, float(epoch), {"distortion": 0.5, "perception": 0.1})
        with trial.metrics.open("a") as file:
            file.write(found.as_line())
        self.driver.progressed(proposal, found)

    def ends_after(self, proposal, epoch=1):
        """What Tune's scheduler is told after an epoch, and what becomes of the trial then."""
        searcher = LedgerSearcher(self.driver, Evaluating(self.driver, None), lambda: None)
        searcher.proposals["tune's"] = proposal
        row = Epoch(epoch, 1000 * epoch, float(epoch), {"distortion": 0.5, "perception": 0.1}).as_row()
        self.step(proposal, epoch)
        result = {"outcome": json.dumps({"row": row, "complete": epoch == EPOCHS})}
        decision = CellScheduler(searcher, Leaving(self.driver, set)).on_trial_result(
            None, SimpleNamespace(trial_id="tune's"), result
        )
        if decision == TrialScheduler.STOP or epoch == EPOCHS:
            searcher.on_trial_complete("tune's", result)
        self.steering.poll(now=True)
        return decision == TrialScheduler.STOP

    def state(self, proposal):
        (trial,) = [t for t in self.driver.ledger.trials() if t.proposal.trial_id == proposal.trial_id]
        return trial.state

    def names(self):
        return [t.proposal.name for t in self.driver.ledger.trials()]


@pytest.fixture
def sweep(tiny, tmp_path, ledger_in):
    return Sweep(tmp_path, {**tiny, "training.epochs": EPOCHS}, **ledger_in)


def test_a_trial_by_hand_is_the_next_and_takes_a_place_of_its_cell(sweep):
    first = sweep.driver.next_proposal()
    verdict, says = sweep.ask(Act.ADD, params={LAMBDA: 7.0})
    assert verdict is Verdict.DONE and says.startswith("k=2/1 (")
    second, third = sweep.driver.next_proposal(), sweep.driver.next_proposal()
    assert second.params[LAMBDA] == 7.0 and second.params["training.n_critic"] in {1, 2, 3}
    assert sweep.driver.planned() == 3 and sweep.driver.next_proposal() is None
    assert len({first.trial_id, second.trial_id, third.trial_id}) == 3
    sweep.ask(Act.ADD, params={LAMBDA: 8.0})
    assert sweep.driver.planned() == 4, "one beyond where all places are taken"


def test_a_trial_by_hand_takes_no_turn_of_points_to_start_with(tiny, tmp_path):
    starts = [{LAMBDA: 1.0}, {LAMBDA: 2.0}]
    sweep = Sweep(tmp_path, tiny, start_with=starts)
    sweep.ask(Act.ADD, params={LAMBDA: 7.0})
    assert [sweep.driver.next_proposal().params[LAMBDA] for _ in range(3)] == [7.0, 1.0, 2.0]


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_trial_that_the_sweep_has_already_is_refused(tiny, tmp_path, sampler):
    search = {LAMBDA: {"choices": [1.0, 2.0, 3.0]}}
    sweep = Sweep(tmp_path, tiny, search=search, sampler=sampler)
    assert sweep.ask(Act.ADD, params={LAMBDA: 2.0})[0] is Verdict.DONE
    verdict, says = sweep.ask(Act.ADD, params={LAMBDA: 2.0})
    assert verdict is Verdict.REFUSED and "the sweep has every such trial already" in says
    assert {sweep.driver.next_proposal().params[LAMBDA] for _ in range(3)} == {1.0, 2.0, 3.0}


def test_what_the_settings_refuse_is_refused_with_their_rule(tiny, tmp_path):
    search = {"model.decoder.width": {"choices": [8, 6]}, "model.decoder.heads": {"choices": [4, 3]}}
    sweep = Sweep(tmp_path, {**tiny, "model.decoder.kind": "attention"}, search=search)
    verdict, says = sweep.ask(Act.ADD, params={"model.decoder.width": 8, "model.decoder.heads": 3})
    assert verdict is Verdict.REFUSED and "model.decoder.heads=3" in says and sweep.names() == []


def test_a_driver_killed_before_it_began_an_added_trial_or_answered_adds_it_once(sweep):
    asked = request(Act.ADD, params={LAMBDA: 7.0})
    sweep.inbox.post(asked)
    cell, given = sweep._file.cells()[0], {LAMBDA: 7.0}
    sweep.driver.ledger.propose_asked(cell, given, asked.note)  # entered, and killed there
    sweep.start()
    sweep.steering.poll(now=True)
    verdict, says = sweep.answer(asked.id)
    assert verdict is Verdict.DONE and says.startswith("k=2/0: added by")
    assert sweep.names() == ["k=2/0"] and sweep.driver.next_proposal().params[LAMBDA] == 7.0


def test_a_stopped_trial_ends_with_its_epoch_keeps_its_numbers_and_says_by_whom(sweep):
    proposal = sweep.driver.next_proposal()
    id_ = sweep.post(Act.STOP, trial=proposal.name)
    sweep.steering.poll(now=True)
    assert sweep.answer(id_) == (Verdict.TAKEN, f"{proposal.name} ends with epoch 1")
    assert sweep.state(proposal) is State.RUNNING and sweep.ends_after(proposal)
    verdict, says = sweep.answer(id_)
    assert verdict is Verdict.DONE and says.startswith("stopped by") and says.endswith("after epoch 1")
    assert sweep.state(proposal) is State.PRUNED and sweep.driver.ledger.missing("k=2") == 2
    sweep.driver.write_results({})
    (row,) = read_results(sweep.paths.results)
    assert row.values["distortion"] == 0.5 and row.steered.startswith("stopped by ") and row.steered.endswith(" UTC")


def test_a_driver_killed_between_request_and_epoch_stops_the_trial_at_the_next_start(sweep):
    proposal = sweep.driver.next_proposal()
    id_ = sweep.post(Act.STOP, trial=proposal.trial_id)
    sweep.steering.poll(now=True)
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.answer(id_)[0] is Verdict.TAKEN
    assert sweep.driver.next_proposal() == proposal and sweep.ends_after(proposal)
    assert sweep.answer(id_)[0] is Verdict.DONE and sweep.state(proposal) is State.PRUNED


@pytest.mark.parametrize("left", [True, False], ids=["its machine is drained", "its workers died"])
def test_a_trial_that_goes_on_elsewhere_ends_as_it_was_asked_to(sweep, left):
    proposal = sweep.driver.next_proposal()
    searcher = LedgerSearcher(sweep.driver, Evaluating(sweep.driver, None), lambda: None)
    searcher.proposals["tune's"] = proposal
    sweep.step(proposal)
    row = Epoch(1, 1000, 1.0, {"distortion": 0.5, "perception": 0.1}).as_row()
    searcher.take("tune's", {"outcome": json.dumps({"row": row})})
    id_ = sweep.post(Act.STOP, trial=proposal.name)
    sweep.steering.poll(now=True)
    searcher.on_trial_complete("tune's", {"outcome": json.dumps({"left": True})} if left else None, error=not left)
    assert sweep.state(proposal) is State.RUNNING and sweep.driver.next_proposal() == proposal
    assert sweep.ends_after(proposal, 2) and sweep.answer(id_)[0] is Verdict.DONE


def test_tokens_without_a_copy_are_told_once_of_each_machine_and_split(sweep, capsys):
    searcher = LedgerSearcher(sweep.driver, Evaluating(sweep.driver, None), lambda: None)
    for machine, free in (("a", 3), ("b", 2), ("a", 1)):
        uncopied = {f"{machine}: {split} tokens": f"{free} GB are free" for split in ("train", "val")}
        searcher.take("tune's", {"outcome": json.dumps({"left": True, "uncopied": uncopied})})
    told = [line for line in capsys.readouterr().out.splitlines() if "tokens" in line]
    assert told == [
        f"{m}: {split} tokens: {n} GB are free" for m, n in (("a", 3), ("b", 2)) for split in ("train", "val")
    ]


def test_what_is_in_the_way_of_a_trial_s_end_ends_the_sweep_with_it(sweep):
    """Tune would log it with its trace, and go on."""
    proposal = sweep.driver.next_proposal()
    searcher = LedgerSearcher(sweep.driver, Evaluating(sweep.driver, None), lambda: None)
    searcher.proposals["tune's"] = proposal
    (sweep.paths.root / "spent.json").mkdir()
    searcher.on_trial_complete("tune's", {"outcome": json.dumps({"machinery": "later"})})
    searcher.on_trial_complete("tune's", error=True)
    assert searcher.stopping() and sweep.state(proposal) is State.RUNNING
    with pytest.raises(MachineryError, match="later"):
        searcher.check_end()
    searcher.broken, searcher.proposals["tune's"] = None, proposal
    searcher.on_trial_complete("tune's", {"outcome": json.dumps({"left": True})})
    assert searcher.stopping()
    with pytest.raises(IsADirectoryError, match="spent.json"):
        searcher.check_end()


def test_a_driver_killed_after_an_epoch_stops_the_trial_at_once_at_the_next_start(sweep):
    proposal = sweep.driver.next_proposal()
    sweep.step(proposal)
    id_ = sweep.post(Act.STOP, trial=proposal.trial_id)
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.answer(id_)[0] is Verdict.DONE and sweep.state(proposal) is State.PRUNED
    assert sweep.driver.next_proposal().trial_id != proposal.trial_id


def test_two_people_who_stop_one_trial_stop_it_once(sweep):
    proposal = sweep.driver.next_proposal()
    ids = [sweep.post(Act.STOP, trial=proposal.name), sweep.post(Act.SKIP, trial=proposal.trial_id)]
    sweep.steering.poll(now=True)
    assert [sweep.answer(id_)[0] for id_ in ids] == [Verdict.TAKEN, Verdict.DONE]
    assert "was asked to end by" in sweep.answer(ids[1])[1]
    sweep.ends_after(proposal)
    assert sweep.state(proposal) is State.PRUNED, "as the first one asked"


def test_a_trial_that_ends_in_that_moment_ends_as_it_would_have(sweep):
    proposal = sweep.driver.next_proposal()
    for epoch in (1, 2):
        sweep.step(proposal, epoch)
    id_ = sweep.post(Act.STOP, trial=proposal.name)
    sweep.steering.poll(now=True)
    sweep.ends_after(proposal, EPOCHS)
    assert sweep.state(proposal) is State.COMPLETE
    assert sweep.answer(id_) == (Verdict.DONE, "it had ended by then: complete")
    assert sweep.ask(Act.STOP, trial=proposal.name)[0] is Verdict.REFUSED


def test_one_that_trained_all_its_epochs_is_not_stopped(sweep):
    proposal = sweep.driver.next_proposal()
    for epoch in (1, 2, 3):
        sweep.step(proposal, epoch)
    sweep.start()
    assert sweep.ask(Act.STOP, trial=proposal.name) == (
        Verdict.REFUSED,
        f"--trial {proposal.name}: has trained all its epochs",
    )


def test_a_skipped_trial_does_not_count_and_is_no_failure(sweep):
    skipped = []
    for _ in range(5):  # more than a cell may fail
        skipped.append(sweep.driver.next_proposal())
        sweep.ask(Act.SKIP, trial=skipped[-1].name)
        sweep.ends_after(skipped[-1])
    assert {sweep.state(p) for p in skipped} == {State.FAILED}
    assert sweep.driver.ledger.missing("k=2") == 3 and len({p.trial_id for p in skipped}) == 5
    records = sweep.driver.records()
    assert all(r.skipped and r.reason.startswith("skipped by") for r in records)


def test_a_waiting_trial_is_skipped_at_once(sweep):
    proposal = sweep.driver.next_proposal()
    sweep.start()
    assert sweep.ask(Act.SKIP, trial=proposal.name)[0] is Verdict.DONE
    assert sweep.state(proposal) is State.FAILED and sweep.driver.next_proposal() != proposal


def test_failed_trials_run_again_once_under_their_own_ids(sweep):
    failed = [sweep.driver.next_proposal() for _ in range(2)]
    for proposal in failed:
        sweep.driver.failed(proposal, "its worker died")
    verdict, says = sweep.ask(Act.RETRY)
    assert (verdict, says) == (Verdict.DONE, "next to begin: k=2/0, k=2/1")
    again = [sweep.driver.next_proposal() for _ in range(2)]
    assert [p.trial_id for p in again] == [p.trial_id for p in failed]
    assert [p.params for p in again] == [p.params for p in failed] and len(sweep.names()) == 2
    assert sweep.driver.ledger.missing("k=2") == 1
    for epoch in range(1, EPOCHS + 1):
        sweep.ends_after(again[0], epoch)
    assert sweep.state(failed[0]) is State.COMPLETE
    assert [t.reason for t in sweep.driver.ledger.trials()] == [None, None]
    assert sweep.driver.records()[0].steered.startswith("run again by")
    assert sweep.ask(Act.RETRY)[0] is Verdict.REFUSED


def test_a_retry_that_was_killed_on_its_way_is_not_done_twice(sweep):
    proposal = sweep.driver.next_proposal()
    sweep.driver.failed(proposal, "its worker died")
    asked = request(Act.RETRY)
    sweep.inbox.post(asked)
    (failed,) = sweep.driver.ledger.trials()
    sweep.driver.ledger.run_again(failed, asked.note)
    sweep.start()
    sweep.driver.failed(sweep.driver.next_proposal(), "its worker died again")
    sweep.steering.poll(now=True)
    assert sweep.answer(asked.id)[0] is Verdict.DONE and sweep.state(proposal) is State.FAILED


def test_finishing_draws_no_trial_and_begins_finalists(tiny, tmp_path, ledger_in):
    sweep = Sweep(tmp_path, {**tiny, "training.epochs": EPOCHS}, finalists={"seeds": 1}, **ledger_in)
    first, second = sweep.driver.next_proposal(), sweep.driver.next_proposal()
    assert sweep.ask(Act.FINISH)[0] is Verdict.TAKEN and sweep.ask(Act.FINISH)[0] is Verdict.DONE
    for epoch in range(1, EPOCHS + 1):
        sweep.ends_after(first, epoch)
    assert sweep.driver.next_proposal() is None, "while one trains the front is not known"
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.driver.next_proposal() == second, "a later start goes on with what began"
    for epoch in range(1, EPOCHS + 1):
        sweep.ends_after(second, epoch)
    finalist = sweep.driver.next_proposal()
    assert finalist.finalist_of in {first.trial_id, second.trial_id}
    while finalist:
        sweep.driver.failed(finalist, "")
        finalist = sweep.driver.next_proposal()
    assert sweep.driver.left() == 0
    sweep.steering.close()
    assert not sweep.inbox.open()
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.driver.next_proposal().cell == "k=2", "once it was done the same command draws the rest"


def test_a_trial_asked_for_after_the_last_has_ended_is_the_next_starts(sweep):
    while proposal := sweep.driver.next_proposal():
        sweep.driver.failed(proposal, "no luck")
    extra = sweep.post(Act.ADD, params={LAMBDA: 7.0})
    again, paused = sweep.post(Act.RETRY), sweep.post(Act.PAUSE)
    sweep.steering.close()
    assert sweep.inbox.answer(extra) is sweep.inbox.answer(again) is None and not sweep.driver.left()
    assert sweep.answer(paused) == (Verdict.DONE, "was in force until the sweep was done")
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.answer(extra)[0] is sweep.answer(again)[0] is Verdict.DONE
    assert sweep.driver.next_proposal()


def test_nothing_begins_while_it_is_paused_a_later_start_included(sweep):
    assert sweep.ask(Act.PAUSE)[0] is Verdict.TAKEN and sweep.ask(Act.PAUSE)[0] is Verdict.DONE
    assert sweep.driver.next_proposal() is None and not sweep.driver.can_begin() and sweep.driver.left() == 3
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.driver.next_proposal() is None
    assert sweep.ask(Act.RESUME)[0] is Verdict.DONE and sweep.driver.can_begin()
    assert sweep.driver.next_proposal() and sweep.ask(Act.RESUME) == (Verdict.DONE, "it was not paused")
    sweep.start()
    sweep.steering.poll(now=True)
    assert sweep.driver.can_begin() and not sweep.inbox.open()


def test_as_many_run_as_was_asked_for_last(sweep):
    assert sweep.ask(Act.SLOTS, count=3) == (Verdict.REFUSED, "slots=3: the cluster has room for 2 at a time")
    one = sweep.post(Act.SLOTS, count=1)
    sweep.steering.poll(now=True)
    sweep.driver.next_proposal()
    assert sweep.driver.slots == 1 and not sweep.driver.can_begin()
    assert sweep.ask(Act.SLOTS, count=2)[0] is Verdict.TAKEN and sweep.driver.can_begin()
    assert sweep.answer(one)[0] is Verdict.DONE
    sweep.start()
    sweep.driver.slots = 1
    sweep.steering.poll(now=True)
    assert sweep.driver.slots == 2


def test_before_there_is_a_cluster_slots_wait(sweep):
    sweep.steering.most_slots = None
    id_ = sweep.post(Act.SLOTS, count=1)
    sweep.steering.poll(now=True)
    assert sweep.inbox.answer(id_) is None
