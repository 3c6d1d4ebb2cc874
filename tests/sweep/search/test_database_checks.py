"""What a database must be for a ledger, looked at before work, on a real server: nothing is written in it."""

import re
import sqlite3

import optuna
import psycopg
import pytest

from tests import postgresql
from tests.postgresql import PASSWORD
from tests.running import write_sweep
from toconv.errors import MachineryError, RequestError
from toconv.sweep.file import load_sweep
from toconv.sweep.recorded import fresh_id
from toconv.sweep.search.database import DatabaseStorage
from toconv.sweep.search.earlier import learn
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.search.ledger_place import Database
from toconv.sweep.search.postgresql import check_apart, check_database
from toconv.tracking_address import Store

pytestmark = pytest.mark.slow  # a server


@pytest.fixture(scope="module")
def server():
    with postgresql.server() as found:
        yield found


@pytest.fixture(autouse=True)
def password(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


@pytest.fixture
def database(server, request):
    """The address of an empty one."""
    name = f"db{abs(hash(request.node.name))}"
    return server.create(name)


def said(address, sql):
    with psycopg.connect(address, autocommit=True) as connection:
        found = connection.execute(sql)
        return found.fetchall() if found.description else []


def tables(address):
    return {row[0] for row in said(address, "select tablename from pg_tables where schemaname = 'public'")}


def role(server, name, more=""):
    said(server.address("postgres"), f"create role {name} login password '{PASSWORD}' {more}")


def as_user(address, user):
    return address.replace("toconv@", f"{user}@")


@pytest.fixture
def ledger(database, tiny, tmp_path):
    """Opens one of an address, and closes it."""
    sweep = load_sweep(write_sweep(tmp_path, tiny), [])

    def opened(address):
        found = Ledger(sweep, Database(address, fresh_id("mine")), lambda params: repr(sorted(params.items())))
        try:
            return found.propose({})
        finally:
            found.close()

    return opened


def test_a_user_who_may_not_write_the_tables_is_refused_until_what_is_said_is_granted(server, database, ledger):
    assert ledger(database)
    role(server, "guest")
    guest = as_user(database, "guest")
    said(database, "grant select on all tables in schema public to guest")
    with pytest.raises(RequestError, match="may not write Optuna's tables there; their owner says") as refused:
        check_database(guest, None)
    for grant in re.findall(r"grant .*? in schema public", str(refused.value)):
        with pytest.raises(RequestError, match="may not write"):
            check_database(guest, None)
        said(database, f"{grant} to guest")
    check_database(guest, None)
    assert ledger(guest)


def test_what_a_user_may_not_do_is_no_damage(server, database, ledger):
    ledger(database)
    role(server, "stranger")
    with pytest.raises(MachineryError, match="permission denied") as told:
        ledger(as_user(database, "stranger"))
    assert "damaged" not in str(told.value)


def test_a_database_that_takes_no_writes_is_refused(database):
    said(database, f"alter database {database.rpartition('/')[2]} set default_transaction_read_only = on")
    with pytest.raises(RequestError, match="takes no writes: it is read-only, or a standby"):
        check_database(database, None)


def test_too_few_connections_are_refused_and_as_many_as_are_said_are_enough(server, database):
    said(database, "grant create on schema public to public")
    role(server, "narrow", "connection limit 2")
    with pytest.raises(RequestError, match="too few connections: a ledger is opened with three"):
        check_database(as_user(database, "narrow"), None)
    said(database, "alter role narrow connection limit 3")
    check_database(as_user(database, "narrow"), None)
    DatabaseStorage(Database(as_user(database, "narrow"), fresh_id("mine")), writes=True).close()


def test_another_programs_tables_are_left_alone(database):
    said(database, "create table alembic_version (version_num varchar(32))")
    with pytest.raises(RequestError, match="holds another program's tables"):
        check_database(database, None)
    with pytest.raises(RequestError, match=r"MLFLOW_TRACKING_URI=.*holds another program's tables"):
        check_apart("postgresql://nobody@127.0.0.1:1/none", tracked(database))
    assert tables(database) == {"alembic_version"}


def tracked(address):
    return Store(address, "MLFLOW_TRACKING_URI", False)


def test_a_ledger_and_mlflows_records_need_a_database_or_a_schema_each(server, database, ledger):
    spelt = database.replace("postgresql:", "postgresql+psycopg:").replace("127.0.0.1", "localhost")
    for tracking in (database, spelt, f"{database}?application_name=mine"):
        with pytest.raises(RequestError, match="need a database, or a schema, each"):
            check_apart(database, tracked(tracking))
    assert not tables(database)
    said(database, "create schema records")
    check_apart(database, tracked(f"{database}?options=-csearch_path%3Drecords"))
    check_apart(database, tracked(server.address("postgres")))
    ledger(database)
    with pytest.raises(RequestError, match="without MLflow's experiments"):
        check_apart(server.address("postgres"), tracked(database))


def test_a_server_that_does_not_answer_is_for_others_to_tell(server, database):
    gone = server.address("none"), server.address("none", port=1)
    assert [check_apart(database, tracked(address)) for address in gone] == [None, None]
    assert [check_apart(address, tracked(database)) for address in gone] == [None, None]
    with pytest.raises(RequestError, match="does not exist"):
        check_database(gone[0], None)


@pytest.mark.parametrize(
    "parameter", ["row_factory", "cursor_factory", "autocommit", "context", "prepare_threshold", "nosuch"]
)
def test_a_parameter_that_is_none_of_libpqs_is_refused(database, parameter):
    with pytest.raises(RequestError, match=f'storage.study=.*invalid connection option "{parameter}"'):
        check_database(f"{database}?{parameter}=1", None)
    check_database(f"{database}?sslmode=prefer&application_name=mine", None)


def test_a_service_file_of_the_system_that_others_can_read_is_refused(server, monkeypatch, tmp_path):
    file = tmp_path / "pg_service.conf"
    file.write_text(f"[mine]\nhost=127.0.0.1\nport={server.port}\ndbname=postgres\nuser=toconv\npassword={PASSWORD}\n")
    file.chmod(0o644)
    monkeypatch.setenv("PGSYSCONFDIR", str(tmp_path))
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(RequestError, match=f"storage.study=.*run chmod 600 {file}"):
        check_database("postgresql:///?service=mine", None)
    file.chmod(0o600)
    check_database("postgresql:///?service=mine", None)


@pytest.fixture
def learning(tiny, tmp_path):
    def of(address):
        return learn(load_sweep(write_sweep(tmp_path, tiny, learn_from=[address]), []), tmp_path / "outputs")

    return of


def test_a_database_without_studies_is_not_learnt_from_and_no_table_is_made_in_it(database, learning, tmp_path):
    with pytest.raises(RequestError, match=r"learn_from=.*cannot be read \(.*version_info"):
        learning(database)
    assert not tables(database)
    file = tmp_path / "somebodys.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table mine (x)")
    before = file.read_bytes()
    for kind in ("sqlite", "sqlite+pysqlite"):
        with pytest.raises(RequestError, match=r"learn_from=.*cannot be read \(.*version_info"):
            learning(f"{kind}:///{file}")
        with pytest.raises(RequestError, match="no such file"):
            learning(f"{kind}:///{tmp_path}/none.db#x")
    assert file.read_bytes() == before and not (tmp_path / "none.db").exists()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_in_postgresql_is_learnt_from(database, learning, tmp_path):
    study = optuna.create_study(
        storage=database.replace("postgresql:", "postgresql+psycopg:"), directions=["minimize"] * 2, study_name="mine"
    )
    study.set_metric_names(["distortion", "perception"])
    assert learning(f"{database}#mine").told == [
        f"learn_from={database}#mine: 0 of 0 trials lie in this space; the sampler learns from them"
    ]
