"""Sweep files: any text, any structure, any change of a valid one ends in a sweep or in an error of ours."""

import resource
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import any_input_is_taken_or_refused
from tests.repository import REPOSITORY
from toconv import config
from toconv.errors import RequestError
from toconv.paths import OUTPUTS, SweepPaths
from toconv.sweep.file import load_sweep
from toconv.sweep.schema import SweepFile

FILES = {path.name: path.read_text() for path in sorted((REPOSITORY / "sweeps").glob("*.yaml"))}
GRID_SIZES = FILES["grid_sizes.yaml"]
HEAD = "name: a\nobjectives: {distortion: minimize}\ntrials: 2\n"
KEYS = [*config.flat(config.compose({}).model_dump()), *config.groups(), *SweepFile.model_fields]
BITS = st.sampled_from(
    [*"[]{}?!%&*|>'\"\\,=:-#~\0\n\t", "<<: *a", "&a ", "!!set ", "---\n", "${", "  ", "\ud800", "9" * 30]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["tpe", "int"])
)
NAMES = st.sampled_from([*KEYS, "low", "high", "step", "choices", "when", "gpu", "hours", "distortion"]) | SCALARS
TREES = st.recursive(
    SCALARS, lambda tree: st.lists(tree, max_size=4) | st.dictionaries(NAMES, tree, max_size=4), max_leaves=12
)
EDITS = st.tuples(st.integers(0, 3000), st.integers(0, 12), BITS | st.text(max_size=3))


@pytest.fixture
def load(tmp_path):
    def loading(text, *texts):
        path = tmp_path / "a.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return load_sweep(path, list(texts))

    return loading


def refusal(call, *arguments):
    with pytest.raises(RequestError) as refused:
        call(*arguments)
    return refused.value.mistakes


def assert_taken_or_refused(load, text, *texts):
    with any_input_is_taken_or_refused():
        sweep = load(text, *texts)
        assert sweep.planned_trials() >= len(sweep.cells()) and sweep.grid_sizes()
        assert SweepPaths.named(sweep.file.name).root.parent == OUTPUTS.resolve()


@given(content=st.dictionaries(st.sampled_from(list(SweepFile.model_fields)), TREES, max_size=5), based=st.booleans())
def test_any_structure_is_taken_or_refused(load, content, based):
    assert_taken_or_refused(load, yaml.dump({**(yaml.safe_load(HEAD) if based else {}), **content}, allow_unicode=True))


@given(text=st.sampled_from(list(FILES.values())), edits=st.lists(EDITS, min_size=1, max_size=4))
def test_any_change_of_a_valid_file_is_taken_or_refused(load, text, edits):
    for at, cut, put in edits:
        at %= len(text) + 1
        text = text[:at] + put + text[at + cut :]
    assert_taken_or_refused(load, text, "data.imagenet_root=/data")


@given(content=st.binary(max_size=300) | st.text(max_size=300))
def test_any_bytes_are_taken_or_refused(load, content):
    assert_taken_or_refused(load, content)


@pytest.mark.parametrize("section", ["settings", "grid", "search", "objectives", "budget", "start_with"])
@pytest.mark.parametrize("content", ["3", "~", "[1, yes]", "{}", "{a: ~}", "x"])
def test_a_section_of_another_kind_is_taken_or_refused(load, section, content):
    assert_taken_or_refused(
        load,
        HEAD.replace("objectives", "baselines" if section == "objectives" else "objectives") + f"{section}: {content}",
    )


@pytest.mark.parametrize("written", ["2024_01_02", "yes", "2024", "1e3", "0x10", "~", "12:30:45", "off"])
def test_a_name_that_yaml_reads_as_something_else_is_shown_with_its_quotes(load, written):
    (mistake,) = refusal(load, GRID_SIZES.replace("name: grid_sizes", f"name: {written}"))
    assert mistake.startswith(f"name={written}: must be text") and f'"{written}"' in mistake
    name = written.replace(":", "").replace("~", "x")
    assert load(GRID_SIZES.replace("name: grid_sizes", f"name: '{name}'")).file.name == name


def test_a_text_setting_that_yaml_reads_as_something_else_is_shown_wherever_it_stands(load):
    found = refusal(
        load,
        HEAD + "settings: {experiment.name: 2024_01_02}\ngrid: {experiment.wandb_project: [yes, a]}\n"
        "search: {encoder.name: {choices: [a, 007]}}",
    )
    assert [m.partition(":")[0] for m in found] == [
        "experiment.name=2024_01_02",
        "experiment.wandb_project=yes",
        "encoder.name=007",
        "encoder.name",  # is no axis
    ]


def test_on_the_command_line_a_name_is_what_was_typed(load):
    for name in ("2024_01_02", "yes", "2024", "1e3", "true"):
        assert load(GRID_SIZES, f"name={name}").file.name == name
    assert refusal(load, GRID_SIZES, "name=null") == ['name=null: must be text, which it is in quotes: "null"']


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("settings: {3: 4}", "the key 3 must be text"),
        ("foo: 3", "foo: no such key; a sweep file has name"),
        ("base: &base {training.epochs: 3}\nsettings: {<<: *base}", "x-… for what anchors alone use"),
        ("settings: {training.epoch: 3}", "training.epoch: no such setting; did you mean training.epochs"),
        ("grid: {foo: [1, 2]}", "foo: no such setting"),
        ("search: {loss.lamda_gp: {low: 1, high: 2}}", "loss.lamda_gp: no such setting"),
        ("settings: {data: folder, data.roto: /x}", "data.roto: no such setting; did you mean data.root"),
        ("budget: {hour: 3}", "budget.hour: no such key; did you mean hours?"),
        ("budget: {weeks: 3}", "budget.weeks: no such key; budget has hours, gpu_hours"),
        ("grd: {training.seed: [1, 2]}", "grd: no such key; did you mean grid?"),
        ("search: {loss.lambda_gp: {low: 1, high: 2, hihg: 3}}", "search.loss.lambda_gp.hihg: no such key"),
        ("settings: {hardware.mixed_precision: foo}", "valid boolean"),
        ("settings: {encoder.image_size: 0}", "encoder.image_size=0: input should be greater than or equal to 1"),
    ],
)
def test_an_invalid_key_or_value_is_one_mistake(load, wrong, told):
    (mistake,) = refusal(load, HEAD + wrong)
    assert told in mistake


def test_a_misspelt_key_is_not_told_to_be_missing_too(load):
    (mistake,) = refusal(load, HEAD.replace("trials", "trial"))
    assert mistake == "trial: no such key; did you mean trials?"
    assert len(refusal(load, "nam: a\nobjectve: {}\nfoo: 1")) == 4  # trials are missing, foo is unknown


def test_an_invalid_key_of_the_command_line_is_one_mistake(load):
    assert refusal(load, GRID_SIZES, "settings={3: 4}") == ['settings.3: must be text, which it is in quotes: "3"']
    assert len(refusal(load, GRID_SIZES, "grid={3: [4]}")) == 1 and len(refusal(load, GRID_SIZES, "nme=3")) == 1


def test_what_the_file_enumerates_counts_where_it_has_other_mistakes(load):
    """The settings alone are wrong, with the first of the grid they are not."""
    text = HEAD + "foo: 1\nsettings: {loss.wgan_weight: 0, loss.ae_weight: 0}\ngrid: {loss.ae_weight: [1, 2]}"
    assert len(refusal(load, text)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "grid: {training.seed: [" + ",".join(map(str, range(1001))) + "]}",
        "grid: {training.seed: ["
        + ",".join(map(str, range(200)))
        + "], loss.lambda_gp: ["
        + ",".join(map(str, range(200)))
        + "]}",
        "search: {training.seed: {low: 0, high: 4294967295, type: int}}\nsampler: grid",
        "search: {loss.lambda_gp: {low: 0, high: 1, step: 1.0e-300}}\nsampler: grid",
        "search:\n  loss.lambda_gp: {low: 0, high: 999, step: 1}\n  loss.ae_weight: {low: 0, high: 999, step: 1}\n"
        "sampler: grid",
        "resources: {cpu: .inf}",
        "budget: {hours: .nan}",
        "settings: {model.compressor.width: 1000000000}",
        "settings: {model.decoder.blocks: 1000000000}",
        "settings: {training.batch_size: 1000000000}",
        "settings: {encoder.image_size: 60000, encoder.patch_size: 1}",
        "settings: {loss.log_ratio: 400}",
        'settings: {data.root: "a\\0b"}',
        "settings: {resume: ''}",
        f"settings: {{data.tokens_dir: {'x' * 300}}}",
    ],
)
def test_sizes_beyond_any_use_are_refused_at_once(load, wrong):
    busy, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(load, HEAD + wrong)
    assert time.process_time() - busy < 5 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**18


def test_trials_and_seeds_have_a_most_that_is_told_with_the_value(load):
    found = refusal(load, HEAD + "grid: {training.seed: [1, 2]}", "trials=60000")
    assert found == [
        "sweep file: trials: 2 cell(s) with 60000 trials each; a sweep has at most 10000 cells and 100000 trials in "
        "all of them"
    ]
    assert "seeds=1001" in refusal(load, HEAD + "finalists: {seeds: 1001}")[0]


def test_a_range_of_a_billion_whole_numbers_is_a_range(load):
    sweep = load(HEAD + "search: {training.seed: {low: 0, high: 4294967295, type: int}}")
    assert sweep.planned_trials() == 2


@pytest.mark.parametrize(
    "axes",
    [
        "grid: {encoder.layer: [-2, -1]}",
        "search: {data.seed: {choices: [0, 1]}}",
        "search: {data.val_fraction: {low: 0.1, high: 0.2}}",
        "grid: {data: [folder, sample]}",
    ],
)
def test_what_decides_the_tokens_is_no_axis(load, axes):
    assert any("decides the tokens, which all trials of a sweep share" in m for m in refusal(load, HEAD + axes))


def test_home_is_expanded_in_a_file_too(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    base = load(
        HEAD
        + "settings: {data: folder, data.root: ~/pics, encoder.weights: ~/w.pt, data.tokens_dir: '~no.such.user/x'}"
    ).base
    assert (str(base.data.root), base.encoder.weights) == ("/home/me/pics", "/home/me/w.pt")
    assert str(base.data.tokens_dir) == "~no.such.user/x"


def test_a_nested_trial_is_measured_at_every_k_of_its_list_and_counts_as_the_one_that_is_given():
    sweep = load_sweep(REPOSITORY / "sweeps" / "nested.yaml", ["model.compressor.init=pool"])
    nested = {"model.compressor.kind": "nested", "model.compressor.grid_sizes": [4, 6, 8, 12]}
    assert sweep.grid_sizes() == [4, 6, 8, 12] and sweep.planned_trials() == 15
    assert sweep.tokens(nested) == 36 and sweep.settings(nested).model.compressor.output_grid_size == 6
    assert sweep.unsearched() == {"model.compressor.output_grid_size": 6, "model.compressor.grid_sizes": None}
    single = {"model.compressor.kind": "conv", "model.compressor.output_grid_size": 8}
    assert sweep.tokens(single) == 64 and sweep.settings(single).model.compressor.sizes == (8,)


@pytest.mark.parametrize("name", ["tokens", "bench", "--dry-run", "-x", "../x", "a/b", "", "a b", ".", "x" * 65])
def test_a_name_that_is_a_folder_of_ours_or_reads_like_an_option_or_a_path_is_refused(tmp_path, name):
    file = tmp_path / "sweep.yaml"
    file.write_text(f"name: {name!r}\ntrials: 1\nobjectives: {{distortion: minimize}}\n")
    with pytest.raises(RequestError, match="name"):
        load_sweep(file, [])


def test_a_sweep_takes_no_gpu_by_its_number_since_each_trial_sees_the_one_that_it_is_given(load):
    with pytest.raises(RequestError, match="hardware.cuda_device=1: is for train.py; Ray gives each trial a GPU"):
        load(GRID_SIZES, "hardware.cuda_device=1")
    assert load(GRID_SIZES, "hardware.cuda_device=0").base.hardware.cuda_device == 0
