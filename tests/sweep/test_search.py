"""Proposals and the ledger, on Optuna itself."""

import itertools
import sqlite3
from ast import literal_eval
from collections import Counter
from copy import deepcopy
from functools import cache

import optuna
import pytest

from tests.running import write_sweep
from toconv.analysis.records import State
from toconv.errors import MachineryError, RequestError
from toconv.sweep.file import load_sweep
from toconv.sweep.search.glance import is_ledger
from toconv.sweep.search.ledger import FAILURES_PER_CELL, Ledger
from toconv.sweep.space import Distribution, active_only, size
from toconv.training.identity import deciding

LAMBDA = "loss.lambda_gp"
TREE = {
    "model.decoder.kind": {"choices": ["conv", "attention"]},
    "model.decoder.heads": {"choices": [1, 2, 4], "when": {"model.decoder.kind": "attention"}},
    "training.n_critic": {"low": 1, "high": 3, "type": "int", "when": {"model.compressor.output_grid_size": [2]}},
}


@pytest.fixture
def ledger(tiny, tmp_path):
    def make(path=None, **changes):
        sweep = load_sweep(write_sweep(tmp_path, tiny, **changes), [])
        return Ledger(sweep, path, lambda params: repr(sorted(params.items())))

    return make


def fill(ledger, value=lambda params: 1.0):
    """Run every proposal of a ledger to its end, one after the other."""
    found = []
    while proposal := ledger.propose({}):
        ledger.complete(proposal, {"distortion": value(proposal.params), "perception": 0.0})
        found.append(proposal)
    return found


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_every_sampler_fills_every_cell_without_repeating_a_configuration(ledger, sampler):
    found = fill(ledger(sampler=sampler, trials=5), lambda params: params[LAMBDA])
    assert [sum(p.cell == f"k={k}" for p in found) for k in (2, 3)] == [5, 5]
    assert len({p.trial_id for p in found}) == 10


def test_the_grid_sampler_visits_each_point_once(ledger):
    search = {LAMBDA: {"choices": [1.0, 2.0, 3.0]}, "training.n_critic": {"low": 1, "high": 2, "type": "int"}}
    found = fill(ledger(sampler="grid", trials=99, search=search))
    points = {(p.cell, p.params[LAMBDA], p.params["training.n_critic"]) for p in found}
    assert points == set(itertools.product(("k=2", "k=3"), (1.0, 2.0, 3.0), (1, 2))) and len(found) == len(points)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_a_draw_is_what_optuna_draws_from_a_study_of_the_cells_trials_and_changes_none_of_them(ledger, sampler):
    one = ledger(sampler=sampler, trials=12, grid={"model.compressor.output_grid_size": [2]})
    while len(found := one._trials("k=2")) < 12:
        proposal = one.propose({})
        if len(found) < 11:  # the last one runs
            one.complete(proposal, {"distortion": proposal.params[LAMBDA] ** 0.5, "perception": float(len(found) % 3)})
    study = optuna.create_study(directions=["minimize"] * 2)
    study.add_trials(found)
    study.sampler = one._sampling._sampler("k=2", 12, 0)
    before, drawn = deepcopy(found), one._sampling.points(one.sweep.cells()[0], found, Counter())
    assert next(drawn)[0] == study.ask(one._sampling._space).params
    next(drawn)  # told that the first was not taken
    assert found == before


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_a_draw_depends_on_its_cell_and_number_alone(ledger, sampler, tmp_path):
    search = {LAMBDA: {"choices": [float(v) for v in range(1, 30)]}}
    changes = {"sampler": sampler, "search": search, "trials": 3}
    whole = {(p.cell, p.number): p.params for p in fill(ledger(**changes))}
    path, found = tmp_path / "study.db", {}
    for number in range(6):  # a new process each time, with results of its own
        one = ledger(path, **changes)
        proposal = one.propose({})
        one.complete(proposal, {"distortion": float(number), "perception": 1.0})
        found[proposal.cell, proposal.number] = proposal.params
    assert found == whole


def test_a_trial_enters_the_ledger_whole(ledger, tmp_path):
    path = tmp_path / "study.db"
    proposal = ledger(path).propose({})
    (trial,) = [
        t
        for s in optuna.get_all_study_summaries(f"sqlite:///{path}")
        for t in optuna.load_study(study_name=s.study_name, storage=f"sqlite:///{path}").trials
    ]
    assert trial.state.name == "RUNNING" and set(trial.params) == {LAMBDA, "training.n_critic"}
    assert [p.params for p in ledger(path).open_proposals()] == [proposal.params]


def test_failed_trials_are_drawn_anew_and_a_cell_that_keeps_failing_is_given_up(ledger):
    one, found = ledger(trials=2), []
    while proposal := one.propose({}):
        one.fail(proposal, "out of memory", infeasible=True)
        found.append(proposal)
    assert [sum(p.cell == f"k={k}" for p in found) for k in (2, 3)] == [FAILURES_PER_CELL + 1] * 2
    assert len({p.trial_id for p in found}) == len(found)  # never retried unchanged
    assert {e.state for e in one.trials()} == {State.FAILED} and one.trials()[0].reason == "out of memory"
    assert one._studies["k=2"].trials[0].user_attrs["infeasible"] is True


def test_a_trial_whose_time_was_over_is_drawn_anew_once_in_a_cell(ledger):
    one, found = ledger(trials=3, grid={"model.compressor.output_grid_size": [2]}), []
    while proposal := one.propose({}):
        one.fail(proposal, "over limits.trial_minutes", overdue=True)
        found.append(proposal)
    assert len(found) == 4
    other = ledger(trials=3, grid={"model.compressor.output_grid_size": [2]})
    other.fail(other.propose({}), "over limits.trial_minutes", overdue=True)
    assert len(fill(other)) == 3


def test_objectives_that_are_not_finite_fail_a_trial(ledger):
    one = ledger()
    proposal = one.propose({})
    one.complete(proposal, {"distortion": float("inf"), "perception": 0.0})
    assert one.trial(proposal).state is State.FAILED and "not finite" in one.trial(proposal).reason


def test_given_points_are_tried_first_and_completed_by_the_sampler(ledger):
    points = [{LAMBDA: 10.0, "training.n_critic": 2}, {LAMBDA: 1.0}]
    found = fill(ledger(start_with=points, trials=3, sampler="random"))
    for cell in ("k=2", "k=3"):
        first, second, third = (p.params for p in found if p.cell == cell)
        assert (first[LAMBDA], first["training.n_critic"]) == (10.0, 2)
        assert second[LAMBDA] == 1.0 and second["training.n_critic"] in {1, 2, 3}
        assert third[LAMBDA] not in {10.0, 1.0}


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "nsga2"])
def test_a_conditional_setting_is_searched_only_where_its_condition_holds(ledger, sampler):
    found = fill(ledger(search=TREE, sampler=sampler, trials=5))
    assert len(found) == 4 + 5  # k=3 has conv and attention with three heads alone
    for params in (p.params for p in found):
        assert ("model.decoder.heads" in params) == (params["model.decoder.kind"] == "attention")
        assert ("training.n_critic" in params) == (params["model.compressor.output_grid_size"] == 2)


def test_a_conditional_space_is_counted_as_a_nested_loop_counts_it():
    space = {key: Distribution.model_validate(d) for key, d in TREE.items()}
    for fixed in ({"model.compressor.output_grid_size": k} for k in (2, 3)):
        points = set()
        for kind, heads, critic in itertools.product(("conv", "attention"), (1, 2, 4), (1, 2, 3)):
            points.add(
                (
                    kind,
                    heads if kind == "attention" else None,
                    critic if fixed["model.compressor.output_grid_size"] == 2 else None,
                )
            )
        assert size(space, fixed, 1000) == len(points)
    conv = {"model.decoder.kind": "conv"}
    drawn = {**conv, "model.decoder.heads": 2, "training.n_critic": 2}
    assert active_only(space, {"model.compressor.output_grid_size": 3}, drawn) == conv


def test_conditions_and_points_outside_the_space_are_refused_together(tiny, tmp_path):
    path = write_sweep(
        tmp_path,
        tiny,
        start_with=[{LAMBDA: 1e9}, {"training.n_critic": 1.5}, {"training.epochs": 2}],
        search={
            LAMBDA: {"low": 1, "high": 2, "when": {"training.n_critic": 1, "model.nothing": 2}},
            "training.n_critic": {"low": 1, "high": 3, "type": "int"},
        },
    )
    with pytest.raises(RequestError) as refused:
        load_sweep(path, [])
    for part in (
        "training.n_critic must stand above",
        "model.nothing: no such setting",
        "start_with[0].loss.lambda_gp=",
        "start_with[1].training.n_critic=1.5",
        "start_with[2].training.epochs: is not searched",
    ):
        assert part in str(refused.value)


def test_finalists_stay_in_the_ledger_when_they_are_no_longer_asked_for(ledger, tmp_path):
    path = tmp_path / "study.db"
    one = ledger(path, finalists={"seeds": 1}, trials=1)
    proposal = one.propose_finalist(fill(one)[0], {"training.seed": 1})
    assert ledger(path, trials=1).trials()[-1].proposal == proposal


def test_a_finalist_is_its_trial_with_another_seed_and_enters_once(ledger):
    one = ledger(finalists={"seeds": 2}, trials=1)
    of = fill(one)[0]
    first = one.propose_finalist(of, {"training.seed": 1})
    assert first.params == {**of.params, "training.seed": 1} and first.finalist_of == of.trial_id
    assert one.propose_finalist(of, {"training.seed": 1}) is None
    one.complete(first, {"distortion": 1.0, "perception": 2.0})
    entry = one.trials()[-1]
    assert entry.proposal == first and entry.values == {"distortion": 1.0, "perception": 2.0}


def test_lists_null_and_uneven_steps_among_the_choices_give_no_warning(ledger, tmp_path, recwarn):
    search = {
        "training.betas": {"choices": [[0.9, 0.95], [0.5, 0.9]]},
        "hardware.threads": {"choices": [None, 1]},
        LAMBDA: {"low": 0, "high": 1, "step": 0.3},
    }
    found = fill(ledger(tmp_path / "study.db", trials=2, search=search), lambda params: params[LAMBDA])
    again = ledger(tmp_path / "study.db", trials=3, search=search)
    assert [t.proposal for t in again.trials()] == sorted(found, key=lambda p: (p.cell, p.number))
    assert again.propose({}).params["training.betas"] in search["training.betas"]["choices"]
    of_others = (ResourceWarning,)  # of what earlier tests left open, collected by now
    assert [str(warning.message) for warning in recwarn if not issubclass(warning.category, of_others)] == []


ATTENTION = {"model.decoder.kind": {"choices": ["attention"]}}
HEADS, WIDTH = "model.decoder.heads", "model.decoder.width"
PARTLY_REFUSED = {**ATTENTION, HEADS: {"choices": [4, 3]}, WIDTH: {"choices": [96, 128]}}


@pytest.fixture
def composing(tiny, tmp_path):
    """A ledger that composes the settings of what it draws, as a driver's does."""

    def make(path=None, **changes):
        changes = {"grid": {"model.compressor.output_grid_size": [3]}, **changes}
        sweep = load_sweep(write_sweep(tmp_path, tiny, **changes), [])
        identity = cache(lambda text: repr(deciding(sweep.settings(dict(literal_eval(text))))))
        return Ledger(sweep, path, lambda params: identity(repr(sorted(params.items()))))

    return make


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random", "grid"])
def test_what_the_settings_refuse_is_drawn_again_and_counted(composing, sampler):
    one = composing(search=PARTLY_REFUSED, sampler=sampler, trials=9)
    found = {(p.params[HEADS], p.params[WIDTH]) for p in fill(one)}
    assert found == {(4, 96), (4, 128), (3, 96)}
    assert all("heads=3: must divide" in rule for rule in one.refused())
    assert all(t.state is State.COMPLETE for t in one.trials())


@pytest.mark.slow
def test_refused_draws_are_counted_by_rule_and_a_restart_draws_the_same(composing, tmp_path):
    search = {**ATTENTION, HEADS: {"low": 1, "high": 64}, WIDTH: {"low": 64, "high": 256}}
    whole, path, found = composing(search=search, trials=3), tmp_path / "study.db", []
    expected = [p.params for p in fill(whole)]
    for _ in expected:
        one = composing(path, search=search, trials=3)
        proposal = one.propose({})
        one.complete(proposal, {"distortion": 1.0, "perception": 0.0})
        found.append(proposal.params)
    assert found == expected and all(p[WIDTH] % p[HEADS] == 0 for p in found)
    (refused,) = one.refused().values()
    assert (refused,) == tuple(whole.refused().values()) and refused > 3


def test_a_space_that_the_settings_always_refuse_ends_with_the_rule_and_how_often(composing):
    def refuse(params):
        raise RequestError(f"model.decoder.width={params[WIDTH]}: too wide")

    one = composing(search={WIDTH: {"low": 2, "high": 2**16}})
    one._identify = refuse
    with pytest.raises(
        RequestError, match=r"cell k=3: all of 500 draws are refused \(500: model.decoder.width=\d+: too"
    ):
        one.propose({})


def test_a_point_to_start_with_keeps_its_values_while_the_rest_is_drawn_again(composing):
    search = {**ATTENTION, HEADS: {"choices": [5, 7, 11, 13, 4]}, WIDTH: {"choices": [5, 7, 11, 13, 4]}}
    first = fill(composing(search=search, start_with=[{WIDTH: 13}], trials=2, sampler="random"))[0]
    assert (first.params[WIDTH], first.params[HEADS]) == (13, 13)


@pytest.mark.parametrize("more", [{}, {"log": True}, {"step": 2}])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_whole_number_setting_is_drawn_whole(composing, sampler, more):
    found = fill(composing(search={"training.n_critic": {"low": 1, "high": 9, **more}}, sampler=sampler, trials=4))
    assert len(found) == 4 and all(type(p.params["training.n_critic"]) is int for p in found)


@pytest.mark.slow
def test_a_study_that_began_with_another_kind_of_range_goes_on(composing, tmp_path):
    """Before 0.2 a step kept a whole-number setting whole, in numbers with a point."""
    path, search = tmp_path / "study.db", {"training.n_critic": {"low": 1, "high": 9, "step": 2}}
    one = composing(path, search=search, trials=3)
    one._space = {"training.n_critic": optuna.distributions.FloatDistribution(1, 9, step=2)}
    one.complete(one.propose({}), {"distortion": 1.0, "perception": 0.0})
    again = composing(path, search=search, trials=3)
    assert len(fill(again)) == 2 and len(again.trials()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"garbage" * 99, b"SQLite format 3\x00" + b"\xff" * 5000, None])
def test_a_study_that_is_none_is_named_with_what_to_do(ledger, tmp_path, content):
    path = tmp_path / "study.db"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(MachineryError, match="study.db.* cannot be opened: .*; where the file is damaged, put a copy"):
        ledger(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        "delete from trial_user_attributes",
        "update trial_user_attributes set value_json = '7' where key = 'trial_id'",
        "insert into trial_user_attributes (trial_id, key, value_json) values (1, 'seal', '5')",
    ],
)
def test_a_study_without_the_facts_of_its_trials_is_named(ledger, tmp_path, change):
    path = tmp_path / "study.db"
    ledger(path).propose({})
    with sqlite3.connect(path) as study:
        study.execute(change)
    with pytest.raises(MachineryError, match="cannot be read"):
        ledger(path).trials()


@pytest.mark.slow
def test_a_file_is_the_ledger_of_a_sweep_or_is_not_and_stays_as_it_is(ledger, tmp_path):
    path, gone, other = tmp_path / "study.db", tmp_path / "gone.db", tmp_path / "other.db"
    ledger(path).propose({})
    with sqlite3.connect(other) as database:
        database.execute("create table mine (x)")
    before = other.read_bytes()
    assert is_ledger(path, "tiny")
    assert not any(is_ledger(p, name) for p, name in ((path, "tin"), (gone, "tiny"), (other, "tiny")))
    assert not gone.exists() and other.read_bytes() == before


def test_what_the_settings_refused_and_what_no_machine_holds_is_told_to_tpe_as_infeasible(composing):
    """As Optuna's TPE takes it: a pruned trial that misses a constraint; at most as many as there are results."""
    search = {**ATTENTION, HEADS: {"low": 1, "high": 64}, WIDTH: {"low": 64, "high": 256}}
    one = composing(search=search, trials=14, sampler="tpe")
    told = []
    add = optuna.Study.add_trials

    def noted(study, trials):
        told.append([t for t in trials if t.constraints.get("feasible")])
        add(study, trials)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(optuna.Study, "add_trials", noted)
        for n in range(13):
            proposal = one.propose({})
            if n == 3:
                one.fail(proposal, "out of memory", infeasible=True)
            else:
                one.complete(proposal, {"distortion": float(n), "perception": 0.0})
    assert not any(told[:11]), "before TPE learns from ten results"
    for trials, results in zip(told[11:], (10, 11), strict=True):
        assert 0 < len(trials) <= results and all(t.state.name == "PRUNED" for t in trials)
    refused = [t.params for t in told[-1] if t.params[WIDTH] % t.params[HEADS]]
    failed = next(t.proposal.params for t in one.trials() if t.state is State.FAILED)
    assert len(refused) == len(told[-1]) - 1
    assert [t.params for t in told[-1]][-1] == {key: failed[key] for key in search}
