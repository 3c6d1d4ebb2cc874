"""Whose files a folder holds, on real trainings of a second."""

import shutil

import pytest
import torch

from toconv import checkpoint, config
from toconv.errors import MachineryError, RequestError
from toconv.paths import CONF, TrialPaths
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.epochs import read_epochs
from toconv.training.folder import check_folder, differences, only_training
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where trainings of this module are kept."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def settings_with(tiny, made):
    shared = {**tiny, "data.tokens_dir": str(made / "tokens")}
    return lambda **changes: config.compose({**shared, **{k.replace("__", "."): v for k, v in changes.items()}})


def training_of(settings):
    return Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))


def trained(settings, made, folder):
    """A copy of a training to its end."""
    kept = made / str(settings.loss.lambda_gp)
    if not kept.exists():
        list(ResumableTraining(training_of(settings), TrialPaths(kept)).epochs())
    return TrialPaths(shutil.copytree(kept, folder))


def content(paths):
    return {path.name: path.read_bytes() for path in paths.folder.iterdir()}


@pytest.fixture
def three(settings_with, made, tmp_path):
    """A training of three epochs, with the checkpoints of the last two."""
    return trained(settings_with(training__checkpoint_every=1), made, tmp_path / "run")


def test_a_checkpoint_knows_no_folder_and_no_address_of_the_machine_that_made_it(three, settings_with, tmp_path):
    state = checkpoint.load(three.latest)
    assert not {"experiment", "resume"} & set(state["settings"]) and "tokens_dir" not in state["settings"]["data"]
    for place in (str(tmp_path), "mlflow.db"):
        assert place not in repr({**state, "settings": {**state["settings"], "data": {}, "encoder": {}}})
    made = settings_with(training__checkpoint_every=1)
    again = config.of_checkpoint(state["settings"])
    assert again.experiment == config.compose({}).experiment and again.data.root == made.data.root
    state["settings"] = made.model_dump(mode="json")  # as earlier versions kept them
    assert config.of_checkpoint(state["settings"]) == again and differences(state, made) == {}


def test_a_training_that_is_another_is_refused_and_nothing_changes(settings_with, three):
    before = content(three)
    for other in (
        {"training__epochs": 1, "model__compressor__output_grid_size": 4},
        {"loss__lambda_gp": 3.0},
        {"training__epochs": 5},
        {"training__seed": 7, "training__checkpoint_every": 1},
    ):
        with pytest.raises(
            RequestError, match=r"is of another training, which reached epoch 3 .*checkpoint_dir=.*resume="
        ):
            check_folder(three, settings_with(**other), None)
    with pytest.raises(RequestError, match="tokens: .* there, f00d here"):
        check_folder(three, settings_with(), None, "f00d")
    assert content(three) == before


def test_the_same_training_may_begin_anew_and_a_longer_one_go_on(settings_with, three):
    check_folder(three, settings_with(training__checkpoint_every=2), None)
    check_folder(three, settings_with(training__epochs=5), three.latest)
    with pytest.raises(RequestError, match="epochs: 3 there, 5 here"):  # epoch 3 would be lost
        check_folder(three, settings_with(training__epochs=5), three.epoch(2))
    check_folder(three, settings_with(), three.epoch(2))  # the same numbers again


def test_a_checkpoint_of_elsewhere_goes_on_in_a_folder_of_its_own_kind_alone(settings_with, three, made, tmp_path):
    other = settings_with(loss__lambda_gp=3.0)
    theirs = trained(other, made, tmp_path / "theirs")
    with pytest.raises(RequestError, match="is of another training"):
        check_folder(three, other, theirs.latest)
    check_folder(TrialPaths(tmp_path / "new"), other, theirs.latest)
    three.latest.write_bytes(b"damaged")
    check_folder(three, settings_with(), three.epoch(2))
    for resume in (None, theirs.latest):
        with pytest.raises(RequestError, match="not readable as a checkpoint"):
            check_folder(three, settings_with(), resume)


@pytest.mark.parametrize(
    "name, text, told",
    [
        ("metrics.jsonl", "{}\n", "whose checkpoints are gone"),
        ("config.yaml", "name: mine\n", "no training wrote it"),
        ("config.yaml", "", "no training wrote it"),
        ("machine.jsonl", "mine", "no training wrote it"),
        ("latest.pt", "weights", "not readable as a checkpoint"),
        ("checkpoint_epoch_7.pt", "weights", "not readable as a checkpoint"),
        ("best_model.pt", "", "not readable as a checkpoint"),
    ],
)
def test_files_of_somebody_else_are_not_written_over(settings_with, tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=told):
        check_folder(TrialPaths(tmp_path), settings_with(), None)


def test_the_folder_of_the_defaults_is_refused(settings_with):
    with pytest.raises(RequestError, match=r"config.yaml: no training wrote it"):
        check_folder(TrialPaths(CONF), settings_with(), None)


def test_what_a_training_left_that_was_stopped_in_its_first_epoch_is_nobodys_work(settings_with, tmp_path):
    settings = settings_with()
    ResumableTraining(training_of(settings), TrialPaths(tmp_path / "run"))
    (tmp_path / "run" / "notes.txt").write_text("mine")
    check_folder(TrialPaths(tmp_path / "run"), settings_with(loss__lambda_gp=3.0), None)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_two_trainings_at_once_and_a_file_for_a_folder_are_refused(tmp_path):
    paths, refused = TrialPaths(tmp_path / "run"), pytest.raises(RequestError, match="another process trains")
    with only_training(paths), refused, only_training(paths):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="must be a folder"), only_training(TrialPaths(tmp_path / "file")):
        pass
    (tmp_path / "odd" / ".lock").mkdir(parents=True)
    with pytest.raises(MachineryError, match="cannot be locked"), only_training(TrialPaths(tmp_path / "odd")):
        pass


def test_a_trial_does_not_go_on_with_the_checkpoint_of_another_trial(settings_with, three, made, tmp_path):
    other = trained(settings_with(loss__lambda_gp=3.0), made, tmp_path / "other")
    three.latest.write_bytes(other.latest.read_bytes())
    settings = settings_with(training__checkpoint_every=1)
    again = ResumableTraining.adopt(training_of(settings), three)
    assert "latest.pt: is of another training (loss.lambda_gp differ)" in again.notes[0]
    assert len(again.done) == 3 and again.done == read_epochs(three.metrics)
