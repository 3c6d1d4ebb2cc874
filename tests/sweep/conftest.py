"""A sweep of trials that are long enough to be disturbed, and its rows where nothing disturbs it."""

import pytest

from tests import postgresql
from tests.conftest import quick
from tests.running import write_sweep
from tests.sweep.faults import Disturbed, undisturbed
from toconv.sweep.file import load_sweep

EPOCHS = 40


@pytest.fixture
def no_environment(monkeypatch):
    """None of the variables that say where Ray and MLflow are."""
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(tiny, tmp_path):
    """A request of the tiny settings and the words of a command line, with MLflow where it is by default."""

    def load(*words):
        return load_sweep(write_sweep(tmp_path, {**tiny, "experiment.tracking_uri": None}), list(words))

    return load


@pytest.fixture(scope="session")
def shared_database():
    """The address of one in which ledgers of many tests lie beside each other."""
    with postgresql.server() as found:
        yield found.create("ledgers")


@pytest.fixture(params=["file", pytest.param("postgresql", marks=pytest.mark.slow)])
def ledger_in(request, monkeypatch):
    """What a sweep's file says of where its ledger lies: nothing, and that database."""
    if request.param == "file":
        return {}
    monkeypatch.setenv("PGPASSWORD", postgresql.PASSWORD)
    return {"storage": {"study": request.getfixturevalue("shared_database")}}


@pytest.fixture(scope="session")
def long_settings(tiny_encoder, photographs, shared):
    """All sweeps read the same tokens."""
    return {
        **quick(tiny_encoder, photographs, shared),
        "data.tokens_dir": str(shared / "tokens"),
        "training.epochs": EPOCHS,
        "training.checkpoint_every": 1,
    }


@pytest.fixture(scope="session")
def reference(long_settings, once):
    """The rows of an undisturbed run."""
    return once("undisturbed", lambda folder: undisturbed(folder, long_settings))


@pytest.fixture(scope="module")
def disturbed(long_settings, tmp_path_factory, reference):
    """One sweep that meets every fault of a module, one after the other. It must then end as if none had been."""
    sweep = Disturbed(tmp_path_factory.mktemp("disturbed"), {**long_settings, "data.tokens_dir": "outputs/tokens"})
    yield sweep
    sweep.ends_as(reference)
