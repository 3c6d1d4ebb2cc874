"""The ledger read without Optuna, beside Optuna's own reading of it."""

import sqlite3
from contextlib import closing, suppress

import pytest
from optuna.storages import RDBStorage
from sqlalchemy import Engine, event

from tests.running import write_sweep
from toconv.analysis.records import State
from toconv.errors import DamagedFile, MachineryError
from toconv.sweep.file import load_sweep
from toconv.sweep.search import glance as glance_module
from toconv.sweep.search import storage
from toconv.sweep.search.glance import glance
from toconv.sweep.search.ledger import Ledger

SEARCH = {
    "loss.lambda_gp": {"low": 0.1, "high": 100, "log": True},
    "training.n_critic": {"low": 1, "high": 3},
    "model.decoder.kind": {"choices": ["conv", "attention"]},
    "training.betas": {"choices": [[0.9, 0.95], [0.5, 0.9]]},
}


def test_it_sees_what_the_ledger_has(tiny, tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, tiny, search=SEARCH, finalists={"seeds": 1}, trials=3), [])
    ledger = Ledger(sweep, tmp_path / "study.db", lambda params: f"id{abs(hash(repr(params)))}")
    first, second, third, fourth = (ledger.propose({}) for _ in range(4))
    ledger.complete(first, {"distortion": 0.5, "perception": 0.1}, {"metrics.jsonl": "f00d"})
    ledger.prune(second, 1)
    ledger.fail(third, "out of memory", infeasible=True)
    ledger.propose_finalist(first, {"training.seed": 1})
    seen, trials = glance(tmp_path / "study.db", "tiny"), ledger.trials()
    assert [(s.name, s.facts.trial_id, s.cell, s.state, s.facts.reason, s.facts.finalist_of) for s in seen] == [
        (t.proposal.name, t.proposal.trial_id, t.proposal.cell, t.state, t.reason, t.proposal.finalist_of)
        for t in trials
    ]
    assert {s.state for s in seen} == set(State) and fourth.trial_id in {s.facts.trial_id for s in seen}
    for one, trial in zip(seen, trials, strict=True):
        shown = one.facts.params or {**one.searched, **ledger._cells[one.cell].fixed}
        assert shown == dict(trial.proposal.params)


def test_without_a_ledger_there_is_nothing_and_another_file_is_named(tmp_path):
    assert glance(tmp_path / "study.db", "tiny") == [] and not (tmp_path / "study.db").exists()
    (tmp_path / "study.db").write_text("no database")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("create table runs (name text)")
    for name in ("study.db", "other.db"):
        with pytest.raises(DamagedFile, match=rf"{name}: not readable as a ledger"):
            glance(tmp_path / name, "tiny")


def test_while_a_driver_makes_the_tables_there_is_nothing(tmp_path):
    path, seen = tmp_path / "study.db", []

    def look(*_):
        seen.append(glance(path, "tiny"))

    event.listen(Engine, "before_cursor_execute", look)
    try:
        made = RDBStorage(f"sqlite:///{path}")
    finally:
        event.remove(Engine, "before_cursor_execute", look)
    made.remove_session()
    made.engine.dispose()
    assert len(seen) > 20 and not any(seen)


def test_a_trial_that_begins_in_the_middle_of_a_look_is_not_seen_half(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LOCK_SECONDS", 0)  # a driver waits for a look to end
    sweep, params = load_sweep(write_sweep(tmp_path, tiny, search=SEARCH, trials=3), []), glance_module._params
    ledger = Ledger(sweep, tmp_path / "study.db", lambda params: f"id{abs(hash(repr(params)))}")
    first = ledger.propose({})

    def another_begins(query):
        with suppress(MachineryError):
            ledger.propose({})
        return params(query)

    monkeypatch.setattr(glance_module, "_params", another_begins)
    assert [seen.facts.trial_id for seen in glance(tmp_path / "study.db", "tiny")] == [first.trial_id]
