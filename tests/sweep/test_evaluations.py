"""Which trials are evaluated by the user's own measure, in a sweep whose trainings and evaluations take no time."""

import json

import pytest

from tests.running import write_sweep
from toconv import checkpoint
from toconv.analysis.records import Kind, State
from toconv.errors import SealBroken
from toconv.paths import SweepPaths
from toconv.settings import SEED
from toconv.sweep.driver import Driver
from toconv.sweep.evaluating import Evaluating
from toconv.sweep.file import load_sweep
from toconv.sweep.own_measure import Evaluated, keep
from toconv.training.epochs import Epoch

OWN = {"command": "my {export} {output}", "metric": "accuracy", "on": "trials"}
BOTH = {"distortion": "minimize", "accuracy": "maximize"}


class Ended:
    """An evaluation that ended as soon as it began."""

    def __init__(self, paths, own, found, died=None):
        self._died = died
        if died is None:
            keep(paths, Evaluated(key=own.key, asked=own.asked, seconds=1, **found))

    def ended(self):
        return True

    def failure(self):
        return self._died


class Works(Ended):
    """One that goes on until it is ended."""

    cancelled = 0

    def __init__(self):
        pass

    def ended(self):
        return False

    def cancel(self):
        Works.cancelled += 1


@pytest.fixture
def opened(overrides, tmp_path):
    """A start of a sweep of one k with these changes of its file."""

    def opening(name="own", **changes):
        asked = {"grid": {"model.compressor.output_grid_size": [2]}, "trials": 2, "evaluation": OWN, **changes}
        file = write_sweep(tmp_path, overrides[1], name=name, sampler="random", **asked)
        paths = SweepPaths(tmp_path / "outputs" / name)
        paths.root.mkdir(parents=True, exist_ok=True)
        return Driver(load_sweep(file, []), paths, tmp_path, "f00d")

    return opening


def train(driver, proposal, distortion):
    """All epochs of a trial at once."""
    paths = driver.paths.trial(proposal.trial_id)
    paths.folder.mkdir(parents=True, exist_ok=True)
    epoch = Epoch(1, 0, 1.0, {"distortion": distortion, "perception": distortion})
    paths.config.touch()
    checkpoint.save(paths.latest, {"epochs": [epoch.as_row()]})
    paths.metrics.write_text(json.dumps(epoch.as_row()) + "\n")
    driver.latest[proposal.trial_id] = epoch
    driver.completed(proposal)


def run(driver, came, slots=1):
    """A whole start; `came(n)` is what the n-th evaluation of it comes to. Returns the trial_ids as trained and as
    evaluated."""
    trained, evaluated = [], []

    def begin(paths):
        evaluated.append(paths.folder.name)
        found = came(len(evaluated))
        return (
            Ended(paths, driver.evaluations.asked, {}, found)
            if isinstance(found, str)
            else Ended(paths, driver.evaluations.asked, found)
        )

    evaluating, driver.slots = Evaluating(driver, begin), slots
    while driver.can_begin():
        proposal = driver.next_proposal()
        if proposal:
            trained.append(proposal.trial_id)
            train(driver, proposal, 0.1 * len(trained) + 0.05 * bool(proposal.finalist_of))
        evaluating.poll()
    assert not evaluating.busy and not driver.open
    return trained, evaluated


def accuracies(number):
    return {"metrics": {"accuracy": number / 10}}


def failing(number):
    return {"failed": "ended with exit code 1: no model"}


def by_kind(driver, kind):
    return [r for r in driver.records() if r.kind == kind]


def test_each_trial_and_its_finalists_are_evaluated_once_trained(opened):
    driver = opened(finalists={"seeds": 2}, objectives={"distortion": "minimize"})
    trained, evaluated = run(driver, accuracies)
    assert trained == evaluated and len(trained) == 4
    assert [r.values["accuracy"] for r in driver.records()] == [0.1, 0.2, 0.3, 0.4]
    assert {r.own for r in driver.records()} == {("accuracy",)}
    again = opened(finalists={"seeds": 2}, objectives={"distortion": "minimize"})
    assert again.left() == 0 and run(again, accuracies) == ([], [])


def test_finalists_alone_are_where_that_is_asked_for_and_keep_their_checkpoints(opened):
    driver = opened(
        finalists={"seeds": 1}, evaluation={**OWN, "on": "finalists"}, objectives={"distortion": "minimize"}
    )
    trained, evaluated = run(driver, accuracies)
    assert evaluated == trained[2:]
    assert all("accuracy" not in r.values for r in by_kind(driver, Kind.TRIAL))
    assert [(r.values["accuracy"], r.kept, r.params[SEED]) for r in by_kind(driver, Kind.FINALIST)] == [(0.1, True, 1)]


def test_as_an_objective_it_decides_the_front_and_is_in_the_ledger(opened):
    driver = opened(objectives=BOTH, trials=3)
    run(driver, lambda number: {"metrics": {"accuracy": [0.5, 0.9, 0.4][number - 1]}})
    assert [t.values["accuracy"] for t in driver.ledger.trials()] == [0.5, 0.9, 0.4]
    assert driver.front(driver.ledger.trials()) == {r.trial_id for r in driver.records()[:2]}
    (path := driver.paths.trial(driver.records()[0].trial_id).evaluation).unlink()
    again = opened(objectives=BOTH, trials=3)
    assert again.left() == 0 and again.records()[0].values["accuracy"] == 0.5, "the ledger's value stays"
    own = again.evaluations.asked
    keep(
        again.paths.trial(path.parent.name), Evaluated(key=own.key, asked=own.asked, metrics={"accuracy": 1}, seconds=0)
    )
    with pytest.raises(SealBroken, match="has accuracy=0.5, was 1.0"):
        opened(objectives=BOTH, trials=3)


def test_a_trial_without_an_objective_has_failed_and_keeps_its_checkpoint(opened):
    driver = opened(objectives=BOTH, trials=1)
    trained, _ = run(driver, lambda number: failing(1) if number == 1 else accuracies(number))
    first, second = driver.records()
    assert (first.state, first.reason, first.kept) == (
        State.FAILED,
        "evaluation: ended with exit code 1: no model",
        True,
    )
    assert (second.state, second.values["accuracy"]) == (State.COMPLETE, 0.2) and len(trained) == 2


def test_otherwise_a_failure_costs_the_number_alone_and_is_tried_again_at_the_next_start(opened):
    driver = opened(objectives={"distortion": "minimize"})
    trained, _ = run(driver, failing)
    assert [(r.state, r.not_evaluated, r.own, r.kept) for r in driver.records()] == [
        (State.COMPLETE, "ended with exit code 1: no model", (), True)
    ] * 2
    again = opened(objectives={"distortion": "minimize"})
    assert again.left() == 2 and run(again, accuracies) == ([], trained)
    assert [(r.not_evaluated, r.values["accuracy"]) for r in again.records()] == [(None, 0.1), (None, 0.2)]
    assert [r.kept for r in again.records()] == [True, False], "what is no longer needed goes"


def test_another_measure_is_had_of_what_still_has_its_checkpoint(opened):
    simple = {"objectives": {"distortion": "minimize"}}
    trained, _ = run(opened(**simple), accuracies)
    other = opened(**simple, evaluation={**OWN, "command": "other {export} {output}"})
    assert run(other, lambda number: {"metrics": {"accuracy": 0.7}}) == ([], trained[:1])
    assert other.out_of_reach == 1 and [r.values.get("accuracy") for r in other.records()] == [0.7, None]
    later = opened(**simple, evaluation=None)
    assert later.left() == 0 and [r.own for r in later.records()] == [(), ()]


def test_a_trial_of_another_sweep_comes_with_its_evaluation_of_the_same_measure_alone(opened):
    same, kept = {"objectives": BOTH, "trials": 1}, {"finalists": {"seeds": 1}}
    trained, _ = run(opened("one", **same), accuracies)
    two = opened("two", **same)
    assert run(two, failing) == ([], []) and two.taken_over == 1
    assert [r.values["accuracy"] for r in two.records()] == [0.1]
    three = opened("three", **same, **kept, evaluation={**OWN, "metric": ["accuracy", "f1"]})
    again, evaluated = run(three, lambda number: {"metrics": {"accuracy": 0.5, "f1": 0.5}})
    assert evaluated[:1] == trained and again == evaluated[1:], "trained once, evaluated by each measure"


def test_what_a_worker_that_died_leaves_is_a_failure(opened):
    driver = opened(objectives={"distortion": "minimize"}, trials=1)
    run(driver, lambda number: "its worker died more than 2 times")
    assert driver.records()[0].not_evaluated == "its worker died more than 2 times"


def test_an_evaluation_holds_its_trials_slot_and_is_done_again_after_a_stop(opened):
    driver = opened(objectives={"distortion": "minimize"})
    evaluating = Evaluating(driver, lambda paths: Works())
    train(driver, driver.next_proposal(), 0.1)
    evaluating.poll()
    assert evaluating.busy and not driver.can_begin()
    driver.slots = 2
    assert driver.can_begin()
    evaluating.stop()
    assert Works.cancelled == 1 and not evaluating.busy and not driver.open
    again = opened(objectives={"distortion": "minimize"})
    trained, evaluated = run(again, accuracies)
    assert len(trained) == 1 and len(evaluated) == 2, "the first one is trained already"


def test_what_failed_to_keep_anything_fails_a_trial_that_needs_it(opened):
    driver = opened(objectives=BOTH, trials=1)
    proposal = driver.next_proposal()
    train(driver, proposal, 0.1)
    driver.evaluated(proposal)
    assert driver.records()[0].reason == "evaluation: nothing was kept of it"
