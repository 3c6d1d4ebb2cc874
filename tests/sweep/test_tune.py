"""What Ray Tune does beside trials, which a sweep does not need."""

import logging
from types import SimpleNamespace

import pytest
from ray.train._internal.storage import StorageContext
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager

import toconv.sweep.tune.run  # noqa: F401 - where Tune is set up


def test_a_copy_of_tune_s_own_state_that_fails_is_not_told(tmp_path, caplog):
    """Nobody reads that state."""
    saved, copy = tmp_path / "saved", tmp_path / "copy" / "tune"
    saved.mkdir()
    (saved / "search_gen_state.json").write_text("{}")
    copy.parent.write_text("no folder")
    syncer = StorageContext(str(tmp_path / "tune"), "tune").syncer
    storage = SimpleNamespace(syncer=syncer, experiment_driver_staging_path=str(saved), experiment_fs_path=str(copy))
    manager = _ExperimentCheckpointManager(storage=storage, checkpoint_period=0)
    with caplog.at_level(logging.DEBUG):
        manager.sync_up_experiment_state(lambda: None, force=True, wait=True)
    assert not caplog.records
    with pytest.raises(OSError):
        syncer.sync_up(str(saved), str(copy))
        syncer.wait()
