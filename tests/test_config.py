"""Requests: every mistake in one message, and what is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import any_input_is_taken_or_refused
from tests.repository import REPOSITORY
from toconv import config
from toconv.errors import RequestError
from toconv.sweep.file import load_sweep, read_yaml
from toconv.sweep.schema import SweepFile

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
        "encoder=foo: must be one of clip_vit_l_14_336, open_clip, timm, vit_s_14_336",
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
            SWEEP, ["grid.model.compressor.output_grid_size=[4,24,0]", "search.loss.lambda_gp={low: -1, high: 20}"]
        )
    )
    assert len(found) == 3


def test_a_setting_of_the_command_line_leaves_the_search():
    sweep = load_sweep(SWEEP, ["model.compressor.output_grid_size=6", "loss.lambda_gp=3", "name=mine"])
    assert sweep.searched() == ["training.n_critic", "loss.wgan_weight"]
    assert sweep.file.name == "mine" and sweep.base.loss.lambda_gp == 3
    assert sweep.grid_sizes() == [6] and len(sweep.cells()) == 1
    assert sweep.file.start_with == [{"training.n_critic": 1, "loss.wgan_weight": 1e-5}]
    fixed = [f"{key}=1" for key in ("loss.lambda_gp", "training.n_critic", "loss.wgan_weight")]
    assert load_sweep(SWEEP, [*fixed, "sampler=random"]).file.start_with == []


@pytest.mark.parametrize("path", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_are_valid(path):
    sweep = load_sweep(path, ["data.imagenet_root=/data/imagenet"])
    assert sweep.file.name == path.stem and path.read_text().startswith("# ")
    assert sweep.grid_sizes() == ([6] if path.stem in {"loss_weights", "families"} else [4, 6, 8, 12])


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
        path.read_text()
        for path in Path(REPOSITORY / "toconv").rglob("*.py")
        if path.name not in {"settings.py", "setting_names.py"}
    )
    keys = {key.rsplit(".", 1)[-1] for key in config.flat(config.compose({}).model_dump())}
    unread = {key for key in keys if f".{key}" not in code}
    assert unread == set()


def test_the_sweep_file_of_the_documentation_is_one(tmp_path):
    text = (REPOSITORY / "docs" / "sweep_file.md").read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "mine.yaml").write_text(text)
    sweep = load_sweep(tmp_path / "mine.yaml", [])
    assert set(SweepFile.model_fields) - set(yaml.safe_load(text)) == {
        *("resources", "baselines", "evaluation"),
        *("learn_from", "stop_when"),  # docs/steering.md
    }
    assert sweep.planned_trials() == 16 and sweep.file.search["model.decoder.heads"].when


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("/data/фото", "/data/фото"),
        ("/data/x (1)", "/data/x (1)"),
        ("epoch=1/latest.pt", "epoch=1/latest.pt"),
        ("a#b", "a#b"),
        ("a&b", "a&b"),
        ("it's", "it's"),
        ("a,b", "a,b"),
        ("[a]/b", "[a]/b"),
        ("[a]", "[a]"),
        ("2024", "2024"),
        ("range(1,3)", "range(1,3)"),
        ("'/data/x (1)'", "/data/x (1)"),
        ("[" * 400, "[" * 400),
        ("9" * 5000, "9" * 5000),
        ("x" * 20_000, "x" * 20_000),
        ("null", None),
    ],
)
def test_what_a_shell_hands_over_is_a_value(typed, value):
    for key in ("data.root", "resume", "encoder.weights", "experiment.wandb_project"):
        assert config.parse_overrides([f"{key}={typed}"]) == {key: value}


def test_values_of_other_settings_are_read_in_hydras_grammar_where_that_takes_them():
    texts = ["training.betas=[0.5,0.9]", "training.epochs=4", "loss.log_ratio=null", "training.test=true", "a.b=x#y"]
    assert list(config.parse_overrides(texts).values()) == [[0.5, 0.9], 4, None, True, "x#y"]
    (mistake,) = mistakes(lambda: config.compose(config.parse_overrides(["training.epochs=4#"])))
    assert mistake.startswith("training.epochs=4#: ")


@pytest.mark.parametrize(
    "text", ["", "=", "=3", "a b=3", "~/pics", "[a]=3", "-x=3", "training.epochs", "a@b=3", "++a=3"]
)
def test_what_assigns_nothing_is_refused(text):
    (mistake,) = mistakes(lambda: config.parse_overrides([text]))
    assert "key=value" in mistake


def test_home_is_expanded_in_what_may_name_a_file(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    texts = ["data=folder", "data.root=~/pics", "resume=~/a=b.pt", "encoder.weights=~/w.pt", "experiment.name=a"]
    made = config.compose(config.parse_overrides(texts))
    assert (str(made.data.root), str(made.resume), made.encoder.weights) == (
        "/home/me/pics",
        "/home/me/a=b.pt",
        "/home/me/w.pt",
    )


@pytest.mark.parametrize(
    "given",
    [
        {"training.betas": [[[0.9] * 3] * 3] * 3},
        {"training.epochs": 10**5000},
        {"training.epochs": {"a": {"b": 1}}},
        {3: 4},
        {(1, 2): 3},
        {"encoder": ["a"]},
        {"data.root": "${data.root}"},
        {"data.root": "${oc.env:"},
        {"encoder.name": "${no.such}"},
        {"encoder.name": b"x"},
        {"encoder.name": "\ud800"},
        {"x" * 50_000: 1},
    ],
)
def test_values_and_keys_that_no_setting_has_are_refused(given):
    assert all(len(mistake) < 1000 for mistake in mistakes(lambda: config.compose(given)))


@pytest.mark.parametrize(
    "text", ["training.epochs=true", "loss.lambda_gp=false", "hardware.threads=true", "training.betas=[true,0.9]"]
)
def test_true_is_no_number(text):
    (told,) = mistakes(lambda: config.compose(config.parse_overrides([text])))
    assert told.startswith(text.split("=")[0]) and told.endswith("must be a number")


@pytest.mark.parametrize("values", ["[]", "[0.9]", "[0.9,0.9,0.9]"])
def test_a_list_of_another_length_is_told_with_its_values(values):
    (told,) = mistakes(lambda: config.compose(config.parse_overrides([f"training.betas={values}"])))
    assert told.startswith(f"training.betas={values}: ") and ("more than" in told or "at most 2" in told)


def test_a_value_may_stand_for_other_settings():
    texts = [
        "data.root=${data.tokens_dir}/x",
        "data.tokens_dir=${encoder.name}",
        "training.epochs=${training.n_critic}",
    ]
    made = config.compose({"encoder.name": "e", "training.n_critic": 3}, config.parse_overrides(texts))
    assert (str(made.data.root), made.training.epochs) == ("e/x", 3)


@pytest.mark.parametrize(
    ("texts", "rule"),
    [
        (["data.root=${no.such}"], "no.such is none"),
        (["data.root=${data}"], "data is none"),
        (["data.root=${oc.env:HOME}"], "oc.env:HOME is none"),
        (["data.root=${data.tokens_dir"], "end with a brace"),
        (["data.root=${${encoder.name}}"], "end with a brace"),
        (["data.root=${encoder.name}", "encoder.name=${data.root}"], "stands for itself"),
        (
            ["data.root=" + "${encoder.name}" * 99, "encoder.name=" + "${data.tokens_dir}" * 99, "data.tokens_dir=abc"],
            "more than 10000 characters",
        ),
    ],
)
def test_what_stands_for_no_setting_is_told_with_the_one_that_holds_it(texts, rule):
    assert any(
        told.startswith("data.root=") and rule in told
        for told in mistakes(lambda: config.compose(config.parse_overrides(texts)))
    )


def test_lists_within_lists_and_within_themselves_are_refused():
    deep, endless = [0.9], [0.9]
    for _ in range(400):
        deep = [deep]
    endless.append(endless)
    for value in (deep, endless):
        assert "no setting holds" in mistakes(lambda value=value: config.compose({"training.betas": value}))[0]


BITS = st.sampled_from(
    [
        *"[](){},=~'\"\\$:#& \t\n\0+-@",
        "${",
        "oc.env:HOME",
        "choice(",
        "range(",
        "glob(",
        "int(",
        "1e999",
        "nan",
        "null",
        "???",
    ]
)
VALUES = st.lists(BITS | st.text(max_size=3) | st.text("9", min_size=4990, max_size=5000), max_size=8).map("".join)
KEYS = st.sampled_from([*config.flat(config.compose({}).model_dump()), *config.groups()])


@given(st.lists(st.tuples(KEYS | VALUES, st.sampled_from("==="), VALUES).map("".join) | st.text(), max_size=4))
def test_any_words_of_a_command_line_are_taken_or_refused(texts):
    with any_input_is_taken_or_refused():
        config.compose(config.parse_overrides(texts))


@given(
    st.sampled_from(["training.betas", "hardware.threads", "model.decoder.kind", "data.root"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text() | VALUES,
        lambda value: st.lists(value, max_size=3),
        max_leaves=5,
    ),
)
def test_a_written_override_is_read_as_what_it_was(key, value):
    if config.takes_text(key) and value is not None:
        value = str(value)
    assert config.parse_overrides([config.override_text(key, value)]) == {key: value}
