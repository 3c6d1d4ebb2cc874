"""Which addresses MLflow may be given, and which of several is in use."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from mlflow.tracking._tracking_service.utils import _tracking_store_registry

from tests.running import toconv_command, write_sweep
from toconv import config
from toconv.errors import RequestError
from toconv.settings import ExperimentSettings
from toconv.sweep.file import load_sweep
from toconv.tracking.tracker import check_access, how_to_look
from toconv.tracking_address import KNOWN, address_mistake, database_file, store_in_use

GOOD = (
    "sqlite:///mlflow.db",
    "sqlite:////data/mlflow.db",
    "http://127.0.0.1:5000",
    "https://mlflow.example.org/base",
    "postgresql://me@host/mlflow",
    "postgresql+psycopg2://host/mlflow",
    "mysql+pymysql://host/mlflow",
    "mssql+pyodbc://host/mlflow",
    "databricks",
    "databricks://profile",
)
BAD = ("foo://x", "htp://host", "ftp://host", "http://", "http://host:port", "http://host:99999", "sqlite:x", "mlruns",
       "./mlruns", "file:///tmp/mlruns", "databricks-uc", "uc:http://x", "//host", "http://[::1")  # fmt: skip


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)


def experiment(address) -> ExperimentSettings:
    return config.compose({}).experiment.model_copy(update={"tracking_uri": address})


@pytest.mark.parametrize("address", GOOD)
def test_what_mlflow_knows_is_accepted(address):
    assert address_mistake(address) is None
    assert config.compose({"experiment.tracking_uri": address}).experiment.tracking_uri == address


@pytest.mark.parametrize("address", ["https://me:secret@mlflow.example.org/base", "postgresql://me:secret@host/mlflow"])
def test_an_address_with_a_password_is_for_the_environment_alone(address, monkeypatch):
    assert address_mistake(address) is None
    with pytest.raises(RequestError, match="MLFLOW_TRACKING_PASSWORD.*of mode 0600.*MLFLOW_TRACKING_URI") as caught:
        config.compose({"experiment.tracking_uri": address, "training.epochs": 0})
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert store_in_use(None).address == address and "secret" not in how_to_look(experiment(None))


def test_a_ledger_lies_in_postgresql_or_nowhere_else_and_its_address_has_no_password(tiny, tmp_path):
    def asked(address):
        return load_sweep(write_sweep(tmp_path, tiny), [f"storage.study={address}"]).file.storage.study

    for address in ("postgresql://me@host/db", "postgresql+psycopg2://host/db", "postgresql:///?service=mine"):
        assert asked(address) == address
    assert asked("null") is None
    for address in ("sqlite:////data/study.db", "mysql://host/db", "study.db", "postgresql:db", "POSTGRESQL://host/db"):
        with pytest.raises(RequestError, match="must be postgresql://USER@HOST/NAME, or null for study.db"):
            asked(address)
    with pytest.raises(RequestError, match="must be postgresql://USER@HOST/NAME, not postgres://, or null"):
        asked("postgres://me@host/db")
    for address in (
        "postgresql://me:hunter22@host/db",
        "postgres://me:hunter22@host/db",
        "postgresql://host/db?password=hunter22",
    ):
        with pytest.raises(RequestError, match="PGPASSWORD.*PGPASSFILE.*service file, of mode 0600") as refused:
            asked(address)
        assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize("address", BAD)
def test_what_mlflow_could_never_use_is_refused_with_all_other_mistakes(address):
    with pytest.raises(RequestError) as caught:
        config.compose({"experiment.tracking_uri": address, "training.epochs": 0})
    assert len(caught.value.mistakes) == 2
    assert any(mistake.startswith("experiment.tracking_uri: ") for mistake in caught.value.mistakes)


def test_libpqs_other_name_of_postgresql_is_refused_with_the_one_to_write():
    with pytest.raises(RequestError, match="postgres:// is no kind that MLflow knows; write postgresql://USER@HOST"):
        config.compose({"experiment.tracking_uri": "postgres://me@host/mlflow"})


def test_the_kinds_are_mlflows_own():
    assert {*KNOWN, "", "file", "uc", "databricks-uc"} == set(_tracking_store_registry._registry)


def test_a_folder_is_accepted_where_mlflow_is_told_to(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert address_mistake("mlruns") is None and address_mistake("file:///tmp/mlruns") is None


def test_the_setting_comes_before_the_environment_and_that_before_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert store_in_use(None) == (f"sqlite:///{tmp_path}/mlflow.db", "the default", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert store_in_use(None) == ("http://server:5000", "MLFLOW_TRACKING_URI", False)
    assert store_in_use("sqlite:///x.db").said_by == "experiment.tracking_uri"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert store_in_use(None).is_default


def test_mlflow_is_given_the_address_that_is_in_use(monkeypatch, tmp_path):
    from toconv.tracking.mlflow_runs import MlflowTracker

    monkeypatch.chdir(tmp_path)
    assert MlflowTracker(experiment(None), None).uri == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert MlflowTracker(experiment(None), None).uri == "http://server:5000"


def test_an_address_that_is_none_is_not_shown(tiny, tmp_path):
    """Where a password begins is known of an address alone."""
    file = write_sweep(tmp_path, {key: value for key, value in tiny.items() if key != "experiment.tracking_uri"})
    for words in (["sweep", str(file), "--dry-run"], ["train"]):
        done = toconv_command(tmp_path, *words, MLFLOW_TRACKING_URI="me:plantedpw@host:5000")
        assert done.returncode == 2 and "MLFLOW_TRACKING_URI: me:// is of no kind" in done.stderr, done.stderr
        assert "plantedpw" not in done.stdout + done.stderr


def test_an_address_of_the_environment_is_checked_before_work(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "foo://secret@host")
    with pytest.raises(RequestError, match="MLFLOW_TRACKING_URI: foo:// is of no kind") as caught:
        check_access(experiment(None))
    assert "secret" not in str(caught.value)


def test_the_last_lines_say_where_to_look():
    assert how_to_look(experiment(None)) == "mlflow ui"
    assert how_to_look(experiment("sqlite:////x/mlflow.db")) == "mlflow ui --backend-store-uri sqlite:////x/mlflow.db"
    assert how_to_look(experiment("http://me:secret@host:5000")) == "http://***@host:5000"
    page = "#/experiments/1/runs"
    assert how_to_look(experiment(None), page) == f"mlflow ui, then http://127.0.0.1:5000/{page}"
    assert how_to_look(experiment("http://me:secret@host:5000/"), page) == f"http://***@host:5000/{page}"


def test_a_database_file_is_known_by_its_path():
    assert database_file("sqlite:////data/mlflow.db?timeout=3") == Path("/data/mlflow.db")
    assert database_file("sqlite:///:memory:") is database_file("http://host") is None


def test_a_file_that_is_no_store_of_mlflows_is_refused_and_stays_as_it_is(tmp_path):
    text, mine, new = tmp_path / "mine.yaml", tmp_path / "mine.db", tmp_path / "new.db"
    text.write_text("name: mine\n" * 100)
    with sqlite3.connect(mine) as database:
        database.execute("create table experiments (mine)")
    before = mine.read_bytes()
    for path, told in ((text, "is no SQLite file"), (mine, "something else than MLflow"), (tmp_path, "is no file")):
        with pytest.raises(RequestError, match=told):
            check_access(experiment(f"sqlite:///{path}"))
    check_access(experiment(f"sqlite:///{new}"))
    assert mine.read_bytes() == before and not new.exists()


IN_MEMORY = (
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite+pysqlite:///:memory:",
    "sqlite:///:memory:?timeout=3",
    "sqlite:///%3Amemory%3A",
    "sqlite:///file::memory:?uri=true",
    "sqlite:///file::memory:?cache=shared&uri=true",
    "sqlite:///file:%253Amemory%253A?uri=true",
    "sqlite:///file:x.db?mode=memory&uri=true",
    "sqlite:///file:x.db?mode=%256Demory&uri=1",
    "sqlite:///file:x.db?a=1%26mode=memory&uri=true",
    "sqlite:///file:/x.db?vfs=memdb&uri=true",
    "sqlite:///file:?uri=true",
)


@pytest.mark.parametrize("address", IN_MEMORY)
def test_a_store_in_memory_is_refused(address):
    """SQLAlchemy keeps nothing of any of them in a file."""
    assert "in memory" in address_mistake(address) and database_file(address) is None
    with closing(sqlalchemy.create_engine(address).raw_connection()) as connection:
        connection.cursor().execute("create table written (once)")
        assert not Path(connection.cursor().execute("pragma database_list").fetchone()[2]).is_file()


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:///{}",
        "sqlite:///file:{}?uri=true",
        "sqlite:///file://{}?mode=rwc&uri=yes",
        "sqlite+pysqlite:///{}?timeout=3",
    ],
)
@pytest.mark.parametrize("name", ["x.db", "a%2520b.db", ":memory:"])
def test_the_file_of_a_store_is_the_one_that_sqlalchemy_opens(address, name, tmp_path):
    address = address.format(tmp_path / name)
    assert address_mistake(address) is None
    with closing(sqlalchemy.create_engine(address).raw_connection()) as connection:
        assert connection.cursor().execute("pragma database_list").fetchone()[2] == str(database_file(address))


@pytest.mark.parametrize("address", ["SQLITE:////f.db", "POSTGRESQL://me@host/mlflow", "HTTP://host:5000", "Https://h"])
def test_a_kind_is_written_in_small_letters(address):
    kind = address.partition(":")[0]
    assert address_mistake(address) == f"must begin with {kind.lower()}: in small letters"


def test_a_driver_that_nobody_knows_is_no_database_in_memory():
    with pytest.raises(
        RequestError, match=r"sqlite\+nosuch:// names a driver that SQLAlchemy does not know; leave out \+n"
    ):
        check_access(experiment("sqlite+nosuch:////f.db"))


@pytest.mark.parametrize(
    ("address", "package"),
    [
        ("postgresql+psycopg://me@host/mlflow", r"'psycopg\[binary\]'"),
        ("postgresql+psycopg2://me@host/mlflow", "psycopg2-binary"),
        ("postgresql+pg8000://host/mlflow", "pg8000"),
        ("mysql+mysqldb://me@host/mlflow", "mysqlclient"),
        ("mysql+pymysql://me@host/mlflow", "pymysql"),
        ("mssql+pyodbc://me@host/mlflow", "pyodbc"),
    ],
)
def test_a_driver_that_is_missing_is_told_before_work_with_what_to_install(monkeypatch, address, package):
    for name in ("psycopg", "psycopg2", "pg8000", "MySQLdb", "pymysql", "pyodbc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RequestError, match=f"pip install {package}$"):
        check_access(experiment(address))


def test_a_login_of_a_server_that_others_can_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".mlflow" / "credentials"
    check_access(experiment("http://127.0.0.1:5000"))
    file.parent.mkdir()
    file.write_text("[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = plantedpw\n")
    file.chmod(0o640)
    with pytest.raises(RequestError, match=f"others can read {file}, which holds its login; run chmod 600 {file}"):
        check_access(experiment("http://127.0.0.1:5000"))
    check_access(experiment(f"sqlite:///{tmp_path}/mlflow.db"))
    file.chmod(0o600)
    check_access(experiment("http://127.0.0.1:5000"))
