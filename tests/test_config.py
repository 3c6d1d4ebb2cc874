"""Requests: every mistake in one message, and what is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.repository import REPOSITORY
from toconv import config
from toconv.errors import RequestError
from toconv.sweep.file import SweepFile, load_sweep, read_yaml

SWEEP = REPOSITORY / "sweeps" / "grid_sizes.yaml"


def mistakes(call):
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value.mistakes


def test_one_message_names_every_mistake():
    texts = [
        "model.compressor.output_grid_size=24",
        "loss.lambda_gp=-1",
        "training.n_critic=0",
        "training.epoch=3",
        "encoder=foo",
        "training.learning_rate=abc",
    ]
    found = "\n".join(mistakes(lambda: config.compose(config.parse_overrides(texts))))
    for part in (
        "output_grid_size=24: must be below the encoder's grid, 1 <= k < 24",
        "loss.lambda_gp=-1",
        "training.n_critic=0",
        "training.epoch: no such setting; did you mean training.epochs",
        "encoder=foo: must be one of clip_vit_l_14_336, vit_s_14_336",
        "training.learning_rate=abc",
    ):
        assert part in found


@pytest.mark.parametrize("k", [0, -1, 24, 25, 6.5, "six"])
def test_a_grid_size_outside_1_to_23_is_refused(k):
    assert mistakes(lambda: config.compose({"model.compressor.output_grid_size": k}))


def test_the_last_layer_wins_groups_included():
    settings = config.compose(
        {"encoder": "vit_s_14_336", "training.epochs": 2}, {"encoder": "clip_vit_l_14_336", "training.epochs": 5}
    )
    assert settings.encoder.width == 1024 and settings.training.epochs == 5


@pytest.mark.parametrize("text", ["a", "+training.new=1", "~training.epochs", "training.epochs=1,2"])
def test_only_plain_assignments_are_accepted(text):
    assert mistakes(lambda: config.parse_overrides([text]))


def test_a_sweep_file_and_command_line_are_checked_together():
    found = "\n".join(mistakes(lambda: load_sweep(SWEEP, ["trials=0", "sampler=foo", "nme=3", "loss.lambda_gp=-1"])))
    for part in ("trials=0", "sampler=foo", "nme", "loss.lambda_gp=-1"):
        assert part in found


def test_every_enumerated_and_searched_value_is_checked_before_work_starts():
    found = mistakes(
        lambda: load_sweep(
            SWEEP, ["grid.model.compressor.output_grid_size=[4,24,0]", "search.loss.lambda_gp={low: -1, high: 2}"]
        )
    )
    assert len(found) == 3


def test_a_setting_of_the_command_line_leaves_the_search():
    sweep = load_sweep(SWEEP, ["model.compressor.output_grid_size=6", "loss.lambda_gp=3", "name=mine"])
    assert sweep.searched() == ["training.n_critic", "loss.wgan_weight"]
    assert sweep.file.name == "mine" and sweep.base.loss.lambda_gp == 3
    assert sweep.grid_sizes() == [6] and len(sweep.cells()) == 1


@pytest.mark.parametrize("path", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_are_valid(path):
    sweep = load_sweep(path, ["data.imagenet_root=/data/imagenet"])
    assert sweep.file.name == path.stem and path.read_text().startswith("# ")
    assert sweep.grid_sizes() == ([6] if path.stem == "loss_weights" else [4, 6, 8, 12])


def test_yaml_numbers_are_numbers_and_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-4\nb: 3\n")
    assert read_yaml(path) == {"a": 1e-4, "b": 3}
    path.write_text("a: 1\na: 2\n")
    assert "given twice" in mistakes(lambda: read_yaml(path))[0]


@pytest.mark.parametrize("name", ["../x", "a b", "", "ä"])
def test_a_sweeps_name_cannot_leave_its_folder(name):
    assert mistakes(lambda: load_sweep(SWEEP, [f"name='{name}'"]))


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "loss.lambda_gp=-1", "training.n_critic=0", "training.epoch=1"],
        ["run_sweep.py", "sweeps/grid_sizes.yaml", "loss.lambda_gp=-1", "trial=3"],
    ],
)
def test_a_wrong_request_ends_with_exit_code_2_and_one_message(command):
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "mistakes" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["toconv", "toconv.config", "toconv.sweep.file", "run_sweep", "train"])
def test_reading_a_request_imports_neither_torch_nor_ray(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'ray', 'optuna', 'mlflow'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0


def test_every_setting_is_read_somewhere():
    code = "\n".join(
        path.read_text() for path in Path(REPOSITORY / "toconv").rglob("*.py") if path.name not in {"settings.py"}
    )
    keys = {key.rsplit(".", 1)[-1] for key in config.flat(config.compose({}).model_dump())}
    unread = {key for key in keys if f".{key}" not in code}
    assert unread == set()


def test_the_readmes_sweep_file_is_one(tmp_path):
    text = (REPOSITORY / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(text)
    sweep = load_sweep(tmp_path / "mine.yaml", [])
    assert set(SweepFile.model_fields) - set(yaml.safe_load(text)) == {"resources", "baselines"}
    assert sweep.planned_trials() == 16 and sweep.file.search["model.decoder.heads"].when
