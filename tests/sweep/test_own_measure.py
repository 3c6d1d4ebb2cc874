"""A user's own measure: what a sweep file may ask for, and what is kept of it."""

import json

import pytest
from pydantic import ValidationError

from toconv.errors import MachineryError, RequestError
from toconv.paths import TrialPaths
from toconv.sweep.file import load_sweep
from toconv.sweep.fits import check_fits
from toconv.sweep.own_measure import Evaluated, OwnMeasure, evaluated, keep
from toconv.sweep.preflight import check_evaluation

HEAD = "name: a\ntrials: 2\n"
COMMAND = "python my_eval.py {export} {output}"
MINIMIZE = "objectives: {distortion: minimize}\n"


@pytest.fixture
def loaded(tmp_path):
    def loading(text, *line):
        path = tmp_path / "a.yaml"
        path.write_text(HEAD + text)
        return load_sweep(path, list(line)).file

    return loading


def asking(**changes):
    return OwnMeasure(**{"command": COMMAND, "metric": "accuracy", "on": "trials", **changes})


def test_the_section_reads_as_people_write_it(loaded):
    """YAML takes a bare `on` for true."""
    own = loaded(
        MINIMIZE + f'evaluation: {{command: "{COMMAND}", metric: accuracy, on: trials, gpu: 0.5, timeout_minutes: 90}}'
    ).evaluation
    assert own == asking(gpu=0.5, timeout_minutes=90) and own.metric == ("accuracy",)
    assert loaded(MINIMIZE).evaluation is None and loaded(MINIMIZE + "evaluation: none").evaluation is None


def test_it_is_overridden_on_the_command_line(loaded):
    text = MINIMIZE + "evaluation: {function: 'a.b:c', metric: [one, two], on: trials}"
    assert loaded(text, "evaluation.gpu=0", "evaluation.timeout_minutes=5").evaluation.timeout_minutes == 5


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (f'{{command: "{COMMAND}", function: "a:b", metric: x}}', "evaluation: give a command or a function, not both"),
        ("{metric: x}", "evaluation: give a command or a function"),
        ('{command: "my {exprt} {export} {output}", metric: x}', "{exprt}: stands for nothing; {export} and"),
        ('{command: "my.py {export}", metric: x}', "must hold {output}: {export} is the compressor's folder"),
        ('{command: "my.py", metric: x}', "must hold {export} and {output}"),
        ('{command: "{export} {output}", metric: x}', "must begin with a program"),
        ('{command: "my.py \'{export} {output}", metric: x}', "cannot be split into words (No closing quotation)"),
        ('{function: "a.b", metric: x}', "evaluation.function=a.b: must be package.module:function"),
        ('{function: "a:b", metric: 1a}', "must be a letter or _, then letters, digits and _"),
        ('{function: "a:b", metric: test_cosine}', "evaluation.metric.0=test_cosine: is a name of toconv's own"),
        ('{function: "a:b", metric: trial_id}', "is a name of toconv's own in results.csv"),
        ('{function: "a:b", metric: k4_test_distortion}', "is a name of toconv's own in results.csv"),
        ('{function: "a:b", metric: []}', "evaluation.metric=[]"),
        ('{function: "a:b", metric: x, timeout_minutes: 0}', "evaluation.timeout_minutes=0"),
        ('{function: "a:b", metric: x, gpu: 1.5}', "evaluation.gpu=1.5: must be a whole number, or a part of one"),
        ('{function: "a:b", metric: x, on: test}', "evaluation.on=test: input should be 'finalists' or 'trials'"),
        (
            '{function: "a:b", metric: x, timeout: 3}',
            "evaluation.timeout: no such key; evaluation has command, function",
        ),
        ('{function: "a:b", metric: x}', "evaluation.on=finalists: needs finalists: {seeds: …}; or have"),
    ],
)
def test_what_cannot_be_asked_is_one_mistake_that_says_why(loaded, section, told):
    with pytest.raises(RequestError) as refused:
        loaded(MINIMIZE + f"evaluation: {section}")
    assert len(refused.value.mistakes) == 1 and told in refused.value.mistakes[0]


def test_it_is_an_objective_where_each_trial_has_it(loaded):
    own = 'evaluation: {function: "a:b", metric: accuracy, on: trials}\n'
    file = loaded(own + "objectives: {accuracy: maximize, distortion: minimize}")
    assert file.own_objectives == ["accuracy"]
    with pytest.raises(RequestError, match="of finalists alone; an objective needs evaluation.on=trials"):
        loaded(own.replace("trials", "finalists") + "finalists: {seeds: 2}\nobjectives: {accuracy: maximize}")
    with pytest.raises(RequestError, match="accuracy: must be one of distortion, .*tokens$"):
        loaded("objectives: {accuracy: maximize}")
    with pytest.raises(RequestError) as refused:  # what the section would have named is not known
        loaded('evaluation: {function: "a", metric: accuracy}\nobjectives: {accuracy: maximize}')
    assert len(refused.value.mistakes) == 1


def test_words_are_put_in_without_a_shell(tmp_path):
    words = asking(command="my eval --to={output} '{export}/x y' $HOME").words(tmp_path / "a b", tmp_path / "o")
    assert words == ["my", "eval", f"--to={tmp_path}/o", f"{tmp_path}/a b/x y", "$HOME"]


def test_what_is_kept_is_of_the_very_measure_and_unaltered(tmp_path):
    paths, own = TrialPaths(tmp_path), asking()
    assert evaluated(paths, own) is None
    found = Evaluated(key=own.key, asked=own.asked, metrics={"accuracy": 0.5}, seconds=1)
    keep(paths, found)
    assert evaluated(paths, own) == evaluated(paths, asking(gpu=0, timeout_minutes=1, on="finalists")) == found
    assert evaluated(paths, asking(command=f"{COMMAND} --again")) is None
    assert evaluated(paths, asking(metric=["accuracy", "f1"])) is None
    paths.evaluation.write_text(paths.evaluation.read_text().replace("0.5", "0.9"))
    assert evaluated(paths, own) is None, "altered: it is evaluated again"
    for text in ("", "{", "[]", json.dumps({"found": {}})):
        paths.evaluation.write_text(text)
        assert evaluated(paths, own) is None


def test_a_disk_that_takes_nothing_is_the_machinery(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineryError, match=r"evaluation\.json: not written"):
        keep(TrialPaths(tmp_path / "file"), Evaluated(key="k", asked="a", seconds=0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_kept(value):
    with pytest.raises(ValidationError):
        Evaluated(key="k", asked="a", metrics={"x": value}, seconds=0)


def test_what_cannot_begin_is_refused_before_work_and_none_of_it_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("raise SystemExit('run')")
    (tmp_path / "mine" / "deep.py").write_text("def there(): ...\n1 / 0")
    (tmp_path / "my_eval.py").write_text("1 / 0")
    for good in (asking(), asking(command=None, function="mine.deep:there"), None):
        check_evaluation(good)
    for changes, told in [
        ({"command": "no-such {export} {output}"}, "no program no-such is found beside"),
        ({"command": COMMAND.replace("my_", "your_")}, f"your_eval.py is no file in {tmp_path}"),
        ({"command": None, "function": "mine.deep:gone"}, "deep.py has no gone"),
        ({"command": None, "function": "mine.high:there"}, f"no module mine.high is found in {tmp_path}"),
        ({"command": None, "function": "nobody.high:there"}, "no module nobody is found"),
    ]:
        with pytest.raises(RequestError) as refused:
            check_evaluation(asking(**changes))
        assert told in str(refused.value)


def test_more_than_the_cluster_ever_has_is_refused_and_no_gpu_counts_as_none():
    check_fits(None, [])
    check_fits(asking(gpu=4), [{"CPU": 2}])
    check_fits(asking(gpu=1), [{"CPU": 2, "GPU": 1}])
    with pytest.raises(RequestError, match=r"no machine of the cluster has that \(2 with cpu=2, gpu=1\)"):
        check_fits(asking(gpu=2), [{"CPU": 2, "GPU": 1}] * 2)
    with pytest.raises(RequestError, match="evaluation.gpu=2: .* the cluster has cpu=2, gpu=1"):
        check_fits(asking(gpu=2), [{"CPU": 2, "GPU": 1}])
