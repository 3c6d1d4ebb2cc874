"""Which word of `toconv sweep` is an option, which the sweep file, which a setting."""

from pathlib import Path

import pytest

from tests.pasting import pasted
from tests.records import record
from toconv.command_line import pasteable
from toconv.config import parse_overrides
from toconv.errors import RequestError
from toconv.sweep.words import understood


@pytest.mark.parametrize(
    ("words", "flags", "file", "texts"),
    [
        (["a.yaml", "trials=2"], set(), "a.yaml", ["trials=2"]),
        (["x=y.yaml", "--debug", "trial.a=1"], {"--debug"}, "x=y.yaml", ["a=1"]),
        (["-lead.yaml", "--dry-run"], {"--dry-run"}, "-lead.yaml", []),
        (["./-lead.yaml"], set(), "-lead.yaml", []),
        (["--dry-run", "--", "-lead.yml", "name=a"], {"--dry-run"}, "-lead.yml", ["name=a"]),
        (["--", "--debug"], set(), "--debug", []),
        (["trial.yaml"], set(), "trial.yaml", []),
    ],
)
def test_a_sweep_file_may_have_any_name(words, flags, file, texts):
    assert understood(words) == (flags, Path(file), texts)


def test_a_file_that_is_there_needs_no_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-lead", "x=y", "--dry"):
        Path(name).write_text("")
        assert understood([name]) == (set(), Path(name), [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "must be a sweep file"),
        (["--"], "must be a sweep file"),
        (["trials=2"], "must be a sweep file"),
        (["a.yaml", "--fast", "-x"], "-x: no such option"),
        (["a.yaml", "--debug", "--dry-run"], "exclude each other"),
    ],
)
def test_words_that_are_none_of_these_are_refused(words, told):
    with pytest.raises(RequestError, match=told):
        understood(words)


@pytest.mark.parametrize("words", [["my sweeps/it's.yaml"], ["x=y.yaml", "a=1"], ["-lead.yaml"], ["--", "-lead.yaml"]])
@pytest.mark.parametrize(
    "value", [None, True, [0.9, 0.95], ["a b", None], 'x\' "y" \\', "[red]", "null", 1e-05, "a=b#c"]
)
def test_the_debug_command_of_a_trial_is_understood_as_it_was_meant(words, value):
    params = {"data.root": value, "hardware.threads": value}
    if isinstance(value, str):
        params["model.decoder.kind"] = value
    else:
        del params["data.root"]
    command = record("a", 16, 0.5, params=params).debug_command(pasteable(["python", "run_sweep.py", *words]))
    flags, file, texts = understood(pasted(command)[2:])
    assert flags == {"--debug"} and file == understood(words)[1]
    given = [text for text in texts if text not in words]
    assert parse_overrides(given) == params
