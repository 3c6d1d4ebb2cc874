"""Which folders a training may write to."""

import pytest
import yaml

from toconv.errors import RequestError
from toconv.paths import CONF, TrialPaths
from toconv.training.resumable import check_folder


@pytest.mark.parametrize(
    "name", ["config.yaml", "latest.pt", "best_model.pt", "checkpoint_epoch_3.pt", "metrics.jsonl"]
)
def test_files_of_others_that_it_would_write_over_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RequestError, match=f"holds {name} of something else than a training"):
        check_folder(TrialPaths(tmp_path))


def test_the_folder_of_the_defaults_is_refused():
    with pytest.raises(RequestError, match=r"holds config.yaml of something else"):
        check_folder(TrialPaths(CONF))


def test_a_trainings_folder_and_files_of_other_names_are_taken(tmp_path, settings):
    check_folder(TrialPaths(tmp_path / "new"))
    (tmp_path / "notes.txt").write_text("mine")
    check_folder(TrialPaths(tmp_path))
    (tmp_path / "latest.pt").write_text("a checkpoint")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    check_folder(TrialPaths(tmp_path))
