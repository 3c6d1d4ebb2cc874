"""A database that MLflow's records go to is looked at before work; one that lets nobody in costs the work nothing."""

import socket

import pytest

from tests import postgresql
from tests.postgresql import PASSWORD
from toconv import config
from toconv.tracking import databases
from toconv.tracking.tracker import check_access, say_store


@pytest.fixture(scope="module")
def server():
    with postgresql.server() as found:
        yield found


@pytest.fixture
def said(capfd):
    """What a start says of a database."""

    def look(address):
        capfd.readouterr()
        settings = config.compose({"experiment.tracking_uri": address}).experiment
        check_access(settings)
        say_store(settings)
        return " ".join(capfd.readouterr().out.split()).partition("(experiment.tracking_uri)")[2].strip()

    return look


@pytest.mark.slow
def test_one_that_lets_nobody_in_is_told_before_work_and_refuses_none(server, said, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    refused = {
        server.address("none"): 'database "none" does not exist',
        server.address("postgres", user="somebody"): "password authentication failed",
        server.address("postgres", port=1): "refused",
    }
    for address, why in refused.items():
        told = said(address)
        assert told.startswith("MLflow's database does not answer (") and why in told and PASSWORD not in told
    assert said(server.address("postgres")) == ""
    monkeypatch.setenv("PGPASSWORD", "wrong")
    assert "password authentication failed" in said(server.address("postgres"))


def test_one_that_accepts_and_never_answers_is_waited_for_only_so_long(said, monkeypatch):
    monkeypatch.setattr(databases, "LOOK_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        told = said(f"postgresql+psycopg://me@127.0.0.1:{listening.getsockname()[1]}/mlflow")
    assert "MLflow's database does not answer (no answer within 0 s); records wait until it does" in told


def test_a_file_is_not_asked(tmp_path, said):
    assert said(f"sqlite:///{tmp_path}/new.db") == "" and not (tmp_path / "new.db").exists()
