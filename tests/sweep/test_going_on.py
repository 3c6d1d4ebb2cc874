"""A sweep whose file changes between two starts, on real ledgers and folders."""

import csv
import os

import optuna
import pytest

from tests.sweep.grown import CRITIC, LAMBDA, TOKENS, Grown, K, measured
from toconv.analysis.records import State
from toconv.errors import RequestError, SealBroken
from toconv.sweep import going_on
from toconv.sweep.going_on import go_on, settle
from toconv.sweep.own_measure import Evaluated, keep
from toconv.sweep.search.glance import glance
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.ledger_place import Database
from toconv.training.identity import trial_id

GRID = {K: [2]}
WIDE = {LAMBDA: {"low": 0.1, "high": 100, "log": True}}
NARROW = {LAMBDA: {"low": 5, "high": 50, "log": True}}


@pytest.fixture
def grown(tiny, tmp_path, ledger_in):
    return lambda **changes: Grown(tmp_path, tiny, ledger_in, **{"grid": GRID, "search": WIDE, "trials": 4, **changes})


def identities(sweep):
    """As a training of these very settings has it, whatever the ledger says."""
    return [trial_id(sweep.driver.sweep.settings(t.proposal.params), TOKENS) for t in sweep.trials()]


def ledger(sweep):
    """Which one it is, and what it holds."""
    place = sweep.driver.ledger.place
    if isinstance(place, Database):
        return place, glance(place, "tiny")
    return place.stat().st_ino, place.read_bytes()


def rows(sweep):
    sweep.driver.write_results({})
    with sweep.paths.results.open() as file:
        return {row["trial_id"]: row for row in csv.DictReader(file)}


def test_a_narrowed_range_draws_within_it_learns_from_what_lies_there_and_keeps_all(grown):
    sweep = grown()
    first = sweep.run()
    low = sorted(p.params[LAMBDA] for p in first)[2]
    told = sweep.start(grid=GRID, search={LAMBDA: {"low": low, "high": 100, "log": True}}, trials=6)
    assert told[LAMBDA] == ("0.1 to 100, log", f"{low:g} to 100, log", "drawn from a range that is narrower")
    assert told["trials"][:2] == ("4", "6")
    within = {p.trial_id for p in first if p.params[LAMBDA] >= low}
    kept = sweep.kept()
    assert {known for known, t in kept.items() if not t.user_attrs["outside"]} == within
    assert sweep.told.startswith("2 of 4 trials so far lie in the space")
    more = sweep.run()
    assert len(more) == 2 and all(low <= p.params[LAMBDA] <= 100 for p in more)
    assert len(rows(sweep)) == 6 and [t.proposal.name for t in sweep.trials()] == [f"k=2/{n}" for n in range(6)]
    assert identities(sweep) == [t.proposal.trial_id for t in sweep.trials()]


def test_the_sampler_is_told_what_optuna_would_be_told_of_trials_of_the_new_space(grown):
    """Beside a study of Optuna's own that was given those trials, and no others, under the new distribution."""
    sweep = grown(sampler="tpe", trials=14, objectives={"distortion": "minimize"})
    first = sweep.run()
    sweep.start(grid=GRID, search=NARROW, trials=99, objectives={"distortion": "minimize"}, sampler="tpe")
    study, within = optuna.create_study(), optuna.distributions.FloatDistribution(5, 50, log=True)
    for p in first:
        if 5 <= p.params[LAMBDA] <= 50:
            value = measured(p.params)["distortion"]
            given = {LAMBDA: p.params[LAMBDA]}
            study.add_trial(optuna.trial.create_trial(params=given, distributions={LAMBDA: within}, value=value))
    ledger, cell = sweep.driver.ledger, sweep.driver.sweep.cells()[0]
    study.sampler = ledger._sampling._sampler(cell.name, len(first), 0)
    expected = study.ask({LAMBDA: within}).params
    assert sweep.driver.next_proposal().params[LAMBDA] == expected[LAMBDA]


def test_what_optuna_itself_does_with_other_choices_and_other_ranges(tmp_path):
    """Why a changed space gets a new ledger: Optuna keeps choices for ever, and its samplers leave out a setting whose
    range differs between trials."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")
    add, make = study.add_trial, optuna.trial.create_trial
    Choice, Range = optuna.distributions.CategoricalDistribution, optuna.distributions.FloatDistribution
    add(make(params={"c": 1, "x": 0.5}, distributions={"c": Choice([1, 2]), "x": Range(0, 1)}, value=0.0))
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        add(make(params={"c": 1}, distributions={"c": Choice([1, 2, 3])}, value=0.0))
    add(make(params={"x": 0.7}, distributions={"x": Range(0, 2)}, value=0.0))
    assert optuna.search_space.intersection_search_space(study.trials) == {}


def test_choices_added_and_taken_out(grown):
    sweep = grown(search={CRITIC: {"choices": [1, 2]}}, sampler="grid")
    first = {p.params[CRITIC]: p.trial_id for p in sweep.run()}
    told = sweep.start(grid=GRID, search={CRITIC: {"choices": [2, 3]}}, sampler="grid", trials=4)
    assert told[CRITIC] == ("one of 1, 2", "one of 2, 3", "3: drawn too; 1: drawn no more")
    assert [t.user_attrs["outside"] for t in map(sweep.kept().get, (first[1], first[2]))] == [True, False]
    assert [p.params[CRITIC] for p in sweep.run()] == [3]
    assert sorted(row[CRITIC] for row in rows(sweep).values()) == ["1", "2", "3"]


def test_grid_values_added_and_taken_out(grown):
    sweep = grown(grid={K: [2, 3]}, trials=2)
    first = sweep.run()
    told = sweep.start(grid={K: [3, 4]}, search=WIDE, trials=2)
    assert told[K] == ("each of 2, 3", "each of 3, 4", "4: new cells; 2: nothing more is drawn")
    more = sweep.run()
    assert [p.cell for p in more] == ["k=4", "k=4"] and sweep.driver.planned() == 6 and sweep.driver.left() == 0
    assert {row["tokens"] for row in rows(sweep).values()} == {"4", "9", "16"}
    assert {p.trial_id for p in first} < {t.proposal.trial_id for t in sweep.trials()}


def test_what_was_fixed_is_searched_and_the_reverse(grown):
    sweep = grown(settings={CRITIC: 2})
    first = sweep.run(3)
    begun = sweep.driver.next_proposal()  # and the driver is killed
    told = sweep.start(
        grid=GRID, drop=[CRITIC], settings={LAMBDA: 10}, trials=6, search={CRITIC: {"low": 1, "high": 3, "type": "int"}}
    )
    assert told[CRITIC] == ("2", "1 to 3", "drawn in the trials to come")
    assert told[LAMBDA] == ("0.1 to 100, log", "10", "fixed in the trials to come")
    adopted = sweep.driver.next_proposal()
    assert adopted.trial_id == begun.trial_id and adopted.params[CRITIC] == 2
    assert sweep.driver.inputs(adopted).settings["training"]["n_critic"] == 2
    assert sweep.driver.inputs(adopted).settings["loss"]["lambda_gp"] == begun.params[LAMBDA]
    sweep.end(adopted)
    more = sweep.run()
    assert len(more) == 2 and {p.params[CRITIC] for p in more} < {1, 2, 3}
    found = rows(sweep)
    assert [found[p.trial_id][CRITIC] for p in first] == ["2", "2", "2"]
    assert [found[p.trial_id][LAMBDA] for p in more] == ["10.0"] * len(more)
    assert identities(sweep) == [t.proposal.trial_id for t in sweep.trials()]
    assert sweep.told.startswith("0 of 4 trials")


def test_a_searched_setting_that_becomes_a_grid_moves_its_trials_into_their_cells(grown):
    sweep = grown(grid={}, search={K: {"choices": [2, 3]}, **WIDE}, trials=6)
    first = sweep.run()
    sweep.start(grid={K: [2, 3]}, search=WIDE, trials=6)
    cells = {t.proposal.trial_id: t.proposal.cell for t in sweep.trials()}
    assert cells == {p.trial_id: f"k={p.params[K]}" for p in first}
    assert not any(t.user_attrs["outside"] for t in sweep.kept().values())
    assert sum(sweep.driver.missing(cell) for cell in ("k=2", "k=3")) == 6


def test_objectives_and_constraints_are_of_the_trials_so_far_too(grown):
    sweep = grown()
    sweep.run()
    objectives, constraints = {"cosine": "maximize", "perception": "minimize"}, {"distortion": "<= 0.01"}
    told = sweep.start(grid=GRID, search=WIDE, trials=4, objectives=objectives, constraints=constraints)
    assert told["objectives"][2].startswith("front, sampler") and told["constraints"][0] == "none"
    for t in sweep.trials():
        assert dict(t.values) == {name: measured(t.proposal.params)[name] for name in objectives}
        (excess,) = sweep.kept()[t.proposal.trial_id].constraints.values()
        assert excess == pytest.approx(measured(t.proposal.params)["distortion"] - 0.01)


def test_an_objective_that_was_not_measured_is_refused_and_nothing_changes(grown):
    sweep = grown()
    sweep.run(1)
    before = sweep.paths.request.read_bytes(), ledger(sweep)
    with pytest.raises(RequestError, match=r"objectives.embedding_agreement: was not measured of trial \w+"):
        sweep.start(grid=GRID, search=WIDE, trials=4, objectives={"embedding_agreement": "maximize"})
    settle(sweep.paths, 0)
    assert (sweep.paths.request.read_bytes(), ledger(sweep)) == before


@pytest.mark.slow
def test_a_users_own_measure_becomes_an_objective_where_each_trial_has_it(grown):
    own = {"function": "a:b", "metric": "accuracy", "on": "trials"}
    same = {"grid": GRID, "search": WIDE, "trials": 4, "evaluation": own}
    sweep = grown(trials=2)
    sweep.run()
    sweep.start(**same)
    asked = sweep.driver.sweep.file.evaluation
    *measured_of, left_out = [t.proposal.trial_id for t in sweep.trials()]

    def found(accuracy):
        return Evaluated(key=asked.key, asked=asked.asked, metrics={"accuracy": accuracy}, seconds=1.0)

    for known in measured_of:
        keep(sweep.paths.trial(known), found(0.5))
    with pytest.raises(RequestError, match=f"objectives.accuracy: was not measured of trial {left_out}"):
        sweep.start(**same, objectives={"accuracy": "maximize"})
    keep(sweep.paths.trial(left_out), found(0.25))
    sweep.start(**same, objectives={"accuracy": "maximize"})
    assert [t.values for t in sweep.trials()] == [{"accuracy": 0.5}, {"accuracy": 0.25}]


def test_points_to_start_with_that_were_added_are_next_and_those_tried_are_not_tried_again(grown):
    sweep = grown(start_with=[{LAMBDA: 3.0}])
    assert sweep.run(2)[0].params[LAMBDA] == 3.0
    told = sweep.start(grid=GRID, search=WIDE, trials=6, start_with=[{LAMBDA: 3.0}, {LAMBDA: 4.0}, {LAMBDA: 6.0}])
    assert told["start_with"][2].startswith("points that no trial has")
    assert [p.params[LAMBDA] for p in sweep.run(2)] == [4.0, 6.0]
    assert sweep.run(1)[0].params[LAMBDA] not in {3.0, 4.0, 6.0}


def test_sampler_and_early_stopping_need_no_new_ledger(grown):
    sweep = grown()
    sweep.run(2)
    before = ledger(sweep)[0]
    told = sweep.start(
        grid=GRID, search=WIDE, trials=4, sampler="random", early_stopping={"after_epochs": 1, "keep": 0.5}
    )
    assert told["sampler"][:2] == ("tpe", "random") and told["early_stopping"][0] == "none"
    assert ledger(sweep)[0] == before and len(sweep.run()) == 2


def test_finalists_stay_with_what_they_repeat(grown):
    sweep = grown(finalists={"seeds": 1}, trials=1)
    *_, finalist = sweep.run()
    assert finalist.finalist_of
    sweep.start(grid={K: [2, 3]}, search=WIDE, trials=1, finalists={"seeds": 1})
    kept = sweep.trials()[-1]
    assert kept.proposal.finalist_of == finalist.finalist_of and kept.proposal.trial_id == finalist.trial_id
    assert (kept.proposal.name, kept.proposal.cell, kept.state) == ("finalists/0", "k=2", State.COMPLETE)


def test_each_change_is_kept_with_its_time_and_user(grown):
    sweep = grown()
    sweep.start(grid=GRID, search=NARROW, trials=4)
    sweep.start(grid=GRID, search=NARROW, trials=5)
    first, second = sweep.written()["growths"]
    assert [c["key"] for c in first["changes"]] == [LAMBDA] and [c["key"] for c in second["changes"]] == ["trials"]
    assert first["at"] <= second["at"] and "user" in first


def test_a_condition_that_changed_leaves_out_what_it_excludes(grown):
    kind, heads = "model.decoder.kind", "model.decoder.heads"
    search = {kind: {"choices": ["conv", "attention"]}, heads: {"choices": [1, 2], "when": {kind: "attention"}}}
    sweep = grown(search=search, trials=3, sampler="grid")
    first = {(p.params[kind], p.params.get(heads)): p.trial_id for p in sweep.run()}
    sweep.start(
        grid=GRID, settings={kind: "attention"}, search={heads: {"choices": [1, 2, 4]}}, trials=4, sampler="grid"
    )
    outside = {known for known, t in sweep.kept().items() if t.user_attrs["outside"]}
    assert outside == {first["conv", None]}
    assert [p.params for p in sweep.run()] == [{K: 2, heads: 4}]
    found = rows(sweep)
    assert found[first["conv", None]][kind] == "conv" and found[first["attention", 2]][kind] == "attention"
    assert identities(sweep) == [t.proposal.trial_id for t in sweep.trials()]


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while the new ledger is written", "before sweep.yaml", "before the old one goes"])
def test_a_driver_killed_while_a_sweep_grows_leaves_the_old_or_the_new_one(grown, monkeypatch, moment):
    sweep = grown()
    first = {p.trial_id for p in sweep.run()}
    asked, was = sweep.asked(grid=GRID, search={LAMBDA: {"choices": [1.0, 2.0]}}, trials=5), sweep.driver.ledger.place
    sweep.gone()

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        if moment == "while the new ledger is written":
            patched.setattr(Ledger, "take", killed)
        elif moment == "before sweep.yaml":
            patched.setattr(going_on, "record_request", killed)
        elif isinstance(was, Database):
            patched.setattr(going_on, "_drop", lambda ledger: killed() if ledger == was else None)
        else:
            patched.setattr(
                going_on.os, "replace", lambda a, b: killed() if b == sweep.paths.study else os.rename(a, b)
            )
        with pytest.raises(Killed):
            go_on(asked, sweep.paths, TOKENS, {})
    if moment != "before the old one goes":  # what it was goes on as if nothing had been asked
        sweep.start(grid=GRID, search=WIDE, trials=4)
        assert {t.proposal.trial_id for t in sweep.trials()} == first and not sweep.changes
    sweep.start(grid=GRID, search={LAMBDA: {"choices": [1.0, 2.0]}}, trials=5)
    assert {t.proposal.trial_id for t in sweep.trials()} == first
    assert sweep.run()[0].params[LAMBDA] in {1.0, 2.0}
    assert len(sweep.ledgers()) == 1


def test_what_a_killed_driver_left_of_a_ledger_is_not_taken_for_a_later_one(grown, monkeypatch):
    sweep = grown(trials=1)
    first = sweep.run()
    sweep.gone()
    with monkeypatch.context() as patched:
        patched.setattr(going_on, "record_request", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            go_on(sweep.asked(grid={K: [3]}, search=NARROW, trials=1), sweep.paths, TOKENS, {})
    sweep.start(grid=GRID, search=WIDE, trials=2)  # the next growth, which needs no new ledger
    (kept,) = sweep.trials()
    assert kept.proposal == first[0] and len(sweep.run()) == 1


def test_results_that_were_altered_are_told_before_the_ledger_changes(grown):
    sweep = grown()
    metrics = sweep.paths.trial(sweep.run(1)[0].trial_id).metrics
    metrics.write_text(metrics.read_text().replace("0.5", "0.6"))
    with pytest.raises(SealBroken, match="has other content"):
        sweep.start(grid=GRID, search=NARROW, trials=4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"settings": {"training.epochs": 4}}, "toconv extend tiny --epochs 4 .*training.epochs: was 3, now 4"),
        ({"grid": {K: [2], "training.epochs": [3, 4]}}, "toconv extend.*training.epochs: was 3, now each of 3, 4"),
        ({"settings": {"loss.ae_weight": 0.5}}, "put both under grid. .*loss.ae_weight: was 1.0, now 0.5"),
    ],
)
def test_what_changes_the_meaning_of_finished_numbers_is_refused_with_what_to_do(grown, changes, told):
    sweep = grown()
    sweep.run(1)
    with pytest.raises(RequestError, match="choose another name=.*" + told):
        sweep.start(**{"grid": GRID, "search": WIDE, "trials": 4, **changes})


def test_other_tokens_and_other_training_code_are_refused(grown, monkeypatch):
    sweep = grown()
    asked = sweep.asked(grid=GRID, search=NARROW, trials=4)
    with pytest.raises(RequestError, match="choose another name=.*fingerprint: was 'f00d', now 'beef'"):
        go_on(asked, sweep.paths, "beef", {})
    monkeypatch.setattr("toconv.sweep.request.training_code", lambda: "other")
    with pytest.raises(RequestError, match="choose another name=.*code: was .*, now 'other'"):
        go_on(asked, sweep.paths, TOKENS, {})
