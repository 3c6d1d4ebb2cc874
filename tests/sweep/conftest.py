"""A sweep of trials that are long enough to be disturbed, and its rows where nothing disturbs it."""

import pytest

from tests.conftest import quick
from tests.sweep.faults import Disturbed, undisturbed

EPOCHS = 40


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
