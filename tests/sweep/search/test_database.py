"""A ledger in PostgreSQL: the same as in a file, whatever becomes of the connection, and one driver's alone."""

import os
import signal
import time
from itertools import pairwise
from threading import Event, Thread, Timer

import psycopg
import pytest
from optuna.trial import TrialState

from tests import postgresql
from tests.forked import PROCESSES
from tests.postgresql import PASSWORD, Wire
from tests.running import write_sweep
from tests.sweep.grown import LAMBDA, Grown
from toconv.analysis.records import State
from toconv.errors import MachineryError, RequestError
from toconv.sweep.file import load_sweep
from toconv.sweep.recorded import fresh_id
from toconv.sweep.search import database
from toconv.sweep.search.earlier import learn
from toconv.sweep.search.glance import glance, is_ledger, is_there
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.ledger_place import Database
from toconv.sweep.search.postgresql import check_database

pytestmark = pytest.mark.slow  # a server
DONE = {"distortion": 0.5, "perception": 0.1}
DRIVERS = 6


@pytest.fixture(scope="module")
def server():
    with postgresql.server() as found:
        yield found


@pytest.fixture(scope="module")
def address(server):
    return server.create("studies")


@pytest.fixture(autouse=True)
def password(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setattr(database, "LET_GO_SECONDS", 3.0)


@pytest.fixture
def opened(tiny, tmp_path):
    """Ledgers of one sweep, by their place, closed at the end."""
    sweep, made = load_sweep(write_sweep(tmp_path, tiny, finalists={"seeds": 1}, trials=3), []), []

    def make(place, writes=True):
        made.append(Ledger(sweep, place, lambda params: f"id{abs(hash(repr(sorted(params.items()))))}", writes))
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()


@pytest.fixture
def wire(server):
    found = Wire(server.port)
    yield found
    found.close()


def some_trials(ledger):
    first, second, third, _ = (ledger.propose({}) for _ in range(4))
    ledger.complete(first, DONE, {"metrics.jsonl": "f00d"})
    ledger.prune(second, 1)
    ledger.fail(third, "out of memory", infeasible=True)
    ledger.propose_finalist(first, {"training.seed": 1})
    return ledger.trials()


def states(ledger):
    return [trial.state for _, trial in ledger.kept()]


def test_it_holds_what_a_file_would(opened, address, tmp_path):
    place = Database(address, fresh_id("tiny"))
    assert not is_there(place) and glance(place, "tiny") == []
    ledger, file = opened(place), opened(tmp_path / "study.db")
    assert some_trials(ledger) == some_trials(file) == opened(place, writes=False).trials()
    mine, its = glance(place, "tiny"), glance(tmp_path / "study.db", "tiny")
    assert [(s.name, s.state, s.searched, s.facts) for s in mine] == [
        (s.name, s.state, s.searched, s.facts) for s in its
    ]
    assert all(abs(a.began - b.began) < 60 for a, b in zip(mine, its, strict=True))


def test_two_sweeps_of_one_name_do_not_meet(opened, address):
    mine, its = Database(address, fresh_id("tiny")), Database(address, fresh_id("tiny"))
    opened(mine).propose({})
    assert opened(its).trials() == [] == glance(its, "tiny") and is_ledger(mine, "tiny")
    assert len(glance(mine, "tiny")) == 1 and not is_ledger(Database(address, "tiny"), "tiny")


def test_a_second_driver_is_refused_while_the_first_one_has_it_and_a_reader_is_not(opened, address):
    place = Database(address, fresh_id("tiny"))
    first = opened(place)
    proposal = first.propose({})
    with pytest.raises(RequestError, match="another process runs this sweep"):
        opened(place)
    with pytest.raises(RequestError, match="another process runs this sweep"):
        check_database(address, place)
    reader = opened(place, writes=False)
    with pytest.raises(MachineryError, match="read-only"):
        reader.complete(proposal, DONE)
    first.complete(proposal, DONE)
    assert states(reader) == [TrialState.COMPLETE]
    first.close()
    check_database(address, place)
    assert states(opened(place)) == [TrialState.COMPLETE]


def drive(file, place, password, begin, told):
    """A driver of its own that tries until it has the ledger, and completes a trial."""
    os.environ["PGPASSWORD"] = password
    sweep, ledger = load_sweep(file, []), None
    begin.wait(60)
    while ledger is None:
        try:
            ledger = Ledger(sweep, place, lambda params: f"id{params[LAMBDA]}")
        except RequestError as error:
            assert "another process runs this sweep" in str(error)
    begun, proposal = time.monotonic(), ledger.propose({})
    time.sleep(0.3)
    ledger.complete(proposal, DONE)
    ended = time.monotonic()
    ledger.close()
    told.put((begun, ended, proposal.trial_id))


def test_of_many_drivers_that_begin_at_once_one_has_it_at_a_time_and_no_trial_is_lost_or_twice(
    opened, address, tiny, tmp_path
):
    place, file = Database(address, fresh_id("tiny")), write_sweep(tmp_path, tiny, trials=DRIVERS, sampler="random")
    begin, told = PROCESSES.Barrier(DRIVERS), PROCESSES.Queue()
    drivers = [PROCESSES.Process(target=drive, args=(file, place, PASSWORD, begin, told)) for _ in range(DRIVERS)]
    for driver in drivers:
        driver.start()
    found = sorted(told.get(timeout=120) for _ in drivers)
    for driver in drivers:
        driver.join(60)
        assert driver.exitcode == 0
    assert all(ended < begun for (_, ended, _), (begun, *_) in pairwise(found)), "one after the other"
    reader = opened(place, writes=False)
    assert states(reader) == [TrialState.COMPLETE] * DRIVERS
    trials = [trial.proposal.trial_id for trial in reader.trials()]
    assert sorted(trials) == sorted(trial_id for *_, trial_id in found) and len({*trials}) == DRIVERS


@pytest.mark.parametrize("passed", [True, False])
def test_a_commit_whose_answer_is_lost_is_done_once(opened, address, wire, server, passed):
    place = Database(address, fresh_id("tiny"))
    ledger = opened(Database(server.address("studies", wire.port), place.name))
    wire.passed, wire.cut_at = passed, b"COMMIT"
    proposal = ledger.propose({})
    assert wire.cuts == 1 and states(ledger) == [TrialState.RUNNING]
    wire.cut_at = b"COMMIT"
    ledger.complete(proposal, DONE, {"metrics.jsonl": "f00d"})
    assert wire.cuts == 2 and states(ledger) == [TrialState.COMPLETE]
    wire.cut_at = b"UPDATE trials"  # the state and the values of the next one
    second = ledger.propose({})
    ledger.complete(second, DONE)
    assert [t.values for _, t in ledger.kept()] == [[0.5, 0.1]] * 2 and len(glance(place, "tiny")) == 2
    assert second.number == 0 and {proposal.cell, second.cell} == {"k=2", "k=3"}


@pytest.mark.parametrize("ended", [True, False])
def test_a_driver_that_lost_its_connection_gives_up_once_another_one_had_the_ledger(
    opened, address, wire, server, ended, monkeypatch
):
    place = Database(address, fresh_id("tiny"))
    first = opened(Database(server.address("studies", wire.port), place.name))
    proposal = first.propose({})
    wire.cut()
    second = opened(place)
    second.fail(second.open_proposals()[0], "as the second one has it")
    if ended:
        second.close()
    with pytest.raises(MachineryError, match="taken over by another driver"):
        first.complete(proposal, DONE)
    (seen,) = glance(place, "tiny")
    assert seen.facts.reason == "as the second one has it" and seen.facts.seal is None


def test_a_database_that_is_restarted_is_found_again(opened, address, server, capsys):
    ledger = opened(Database(address, fresh_id("tiny")))
    proposal = ledger.propose({})
    server.restart()
    ledger.complete(proposal, DONE)
    printed = " ".join(capsys.readouterr().out.split())
    assert states(ledger) == [TrialState.COMPLETE]
    assert printed.count("does not answer") == 1 and "answers again, after" in printed and PASSWORD not in printed


def test_one_that_stays_away_or_stands_still_is_given_up_in_time_and_gone_on_with(
    opened, address, server, monkeypatch, capsys
):
    monkeypatch.setattr(database, "AWAY_SECONDS", 1.5)
    monkeypatch.setattr(database, "SILENT_SECONDS", 0.3)
    place = Database(f"{address}?connect_timeout=2", fresh_id("tiny"))
    first = opened(place)
    proposal = first.propose({})
    for halt, resume in ((server.stop, server.start), (server.stand_still, server.go_on)):
        halt()
        began = time.monotonic()
        with pytest.raises(MachineryError, match=r"cannot be (read|written), also after") as refused:
            first.complete(proposal, DONE)
        assert time.monotonic() - began < 30 and PASSWORD not in str(refused.value)
        if resume == server.start:
            assert "it is tried for" in " ".join(capsys.readouterr().out.split())
            with pytest.raises(MachineryError, match="cannot be read"):
                first.trials()
            assert "it is tried for" not in " ".join(capsys.readouterr().out.split()), "not waited for again"
        if resume == server.start:
            with pytest.raises(MachineryError, match="cannot be opened"):
                check_database(address, place)
            with pytest.raises(MachineryError, match="cannot be read"):
                glance(place, "tiny")
        resume()
        assert states(first) == [TrialState.RUNNING]
    assert "it is waited for" in " ".join(capsys.readouterr().out.split())
    first.complete(proposal, DONE)
    assert states(first) == [TrialState.COMPLETE]


def test_whoever_interrupts_a_wait_does_not_wait_again(opened, address, server):
    ledger = opened(Database(address, fresh_id("tiny")))
    proposal, interrupted = ledger.propose({}), Event()
    server.stop()

    def interrupt():
        """Once more where the first one met code whose exceptions Python drops."""
        while not interrupted.wait(0.5):
            os.kill(os.getpid(), signal.SIGINT)

    try:
        Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            ledger.complete(proposal, DONE)
        interrupted.set()
        began = time.monotonic()
        with pytest.raises(MachineryError, match="cannot be read: "):
            ledger.trials()
        assert time.monotonic() - began < 20  # of 120
    finally:
        interrupted.set()
        server.start()
    assert states(ledger) == [TrialState.RUNNING]


def test_a_table_that_somebody_else_locks_is_waited_for_and_given_up_in_time(opened, address, monkeypatch, capsys):
    monkeypatch.setattr(database, "SILENT_SECONDS", 0.3)
    place = Database(address, fresh_id("tiny"))
    ledger = opened(place)
    proposal = ledger.propose({})
    with psycopg.connect(address) as somebody:
        somebody.execute("lock table trials")
        Timer(2, somebody.rollback).start()
        ledger.complete(proposal, DONE)
    assert "it is waited for" in " ".join(capsys.readouterr().out.split())
    assert states(ledger) == [TrialState.COMPLETE]
    ledger.close()
    monkeypatch.setattr(database, "AWAY_SECONDS", 2.0)
    ledger = opened(place)
    with psycopg.connect(address) as somebody:
        somebody.execute("lock table trials")
        with pytest.raises(MachineryError, match="cannot be (read|written), also after 2 s"):
            ledger.propose({})
    assert ledger.propose({}) and states(ledger) == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_full_disk_of_the_server_ends_it_and_nothing_is_lost(opened, server, monkeypatch):
    monkeypatch.setattr(database, "AWAY_SECONDS", 1.5)
    place = Database(server.create("full_disk"), fresh_id("tiny"))
    ledger = opened(place)
    first, second = ledger.propose({}), ledger.propose({})
    ledger.complete(first, DONE)
    server.fill_its_disk()
    try:
        with pytest.raises(MachineryError, match=r"cannot be (read|written), also after"):
            ledger.complete(second, DONE)
    finally:
        server.restart()
    assert states(ledger) == [TrialState.COMPLETE, TrialState.RUNNING]
    ledger.complete(second, DONE)
    assert [seen.state for seen in glance(place, "tiny")] == [State.COMPLETE] * 2


def test_what_cannot_be_a_ledger_is_refused_without_the_password(address, server, monkeypatch, tmp_path):
    refused = {
        server.address("none"): "does not exist",
        server.address("studies", user="somebody"): "authentication failed",
        server.address("studies", port=1): "refused",
        "postgresql+pg8000://me@host/db": r"needs pg8000, which is not installed; pip install 'toconv\[postgresql\]'",
    }
    for wrong, why in refused.items():
        with pytest.raises(RequestError, match=why) as told:
            check_database(wrong, None)
        assert "storage.study=postgresql" in str(told.value) and PASSWORD not in str(told.value)
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:*:*:*:{PASSWORD}\n")
    file.chmod(0o644)
    monkeypatch.setenv("PGPASSFILE", str(file))
    with pytest.raises(RequestError, match=f"run chmod 600 {file}"):
        check_database(address, None)
    file.chmod(0o600)
    check_database(address, None)
    monkeypatch.setenv("PGSERVICEFILE", str(service := tmp_path / "services"))
    service.write_text(
        f"[mine]\nhost=127.0.0.1\nport={server.port}\ndbname=studies\nuser=toconv\npassword={PASSWORD}\n"
    )
    monkeypatch.setenv("PGPASSFILE", "/nowhere")
    with pytest.raises(RequestError, match=f"run chmod 600 {service}"):
        check_database("postgresql:///?service=mine", None)
    service.chmod(0o600)
    check_database("postgresql:///?service=mine", None)


def test_a_changed_file_writes_it_anew_and_nothing_of_the_old_one_stays(tiny, address, server, tmp_path):
    at = {"sampler": "random", "trials": 2}
    wide, narrow = ({LAMBDA: {"low": low, "high": 100, "log": True}} for low in (0.1, 50))
    sweep = Grown(tmp_path, tiny, {"storage": {"study": address}}, search=wide, **at)
    first = sweep.run()
    was = sweep.driver.ledger.place
    sweep.start(search=narrow, **{**at, "trials": 3})
    now = sweep.driver.ledger.place
    assert was.name == sweep.written()["id"]
    assert now == was.grown(1) and sweep.written()["ledger"]["name"] == now.name and not is_there(was)
    assert {p.trial_id for p in first} == {t.proposal.trial_id for t in sweep.trials()}
    assert len(sweep.run()) == 2 and len(glance(now, "tiny")) == 6
    assert not (sweep.paths.root / "study.db").exists()
    other = server.create("moved_to")
    for elsewhere, told in (({"study": None}, "now null"), ({"study": other}, "has not its ledger")):
        with pytest.raises(RequestError, match=told):
            sweep.always = {"storage": elsewhere}
            sweep.start(search=narrow, **{**at, "trials": 3})
    sweep.always = {"storage": {"study": f"{address}?application_name=mine"}}
    sweep.start(search=narrow, **{**at, "trials": 3})
    assert len(sweep.trials()) == 6
    other = load_sweep(write_sweep(tmp_path, tiny, name="other", search=narrow, learn_from=["tiny"]), [])
    assert learn(other, tmp_path / "outputs").told[0].startswith("learn_from=tiny: 2 of 6 trials lie in this space")
