"""What commands share: what they print can be pasted, whatever stops them has its exit code."""

import sys
from types import SimpleNamespace

import pytest

from tests.pasting import pasted
from toconv.command_line import one_name, pasteable, path_of, run_command, same_command
from toconv.errors import ExitCode, MachineryError, RequestError

WORDS = [
    "a b/x's.yaml",
    'say "hi"',
    "data.root=/data/фото (1)",
    "=x.yaml",
    "-lead.yaml",
    "~/pics",
    "a#b&c;d",
    "$HOME*?",
    "",
]


@pytest.mark.parametrize("word", WORDS)
def test_a_printed_command_is_the_same_words_in_a_shell(word, monkeypatch):
    assert pasted(pasteable(["toconv", "sweep", word])) == ["toconv", "sweep", word]
    monkeypatch.setattr(sys, "argv", ["my folder/run_sweep.py", word])
    assert pasted(same_command().removeprefix("to go on: ")) == ["python", "my folder/run_sweep.py", word]


def ended(error, capsys):
    def main(arguments):
        raise error

    code = run_command(lambda: SimpleNamespace(main=main), [])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("wrong"), ExitCode.REQUEST),
        (MachineryError("gone"), ExitCode.MACHINERY),
        (OSError(28, "No space left on device"), ExitCode.MACHINERY),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 PiB"),
            ExitCode.MACHINERY,
        ),
        (ZeroDivisionError("a fault of ours"), ExitCode.MACHINERY),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
)
def test_whatever_stops_a_command_has_an_exit_code_of_the_readme(error, code, capsys, monkeypatch):
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    found, told = ended(error, capsys)
    assert found == code and ("to go on" in told) == (code != ExitCode.REQUEST)
    assert ("Traceback" in told) == isinstance(error, ZeroDivisionError)


def test_names_are_printed_whatever_bytes_they_have(capfdbinary, monkeypatch):
    monkeypatch.setattr(sys, "stderr", open(sys.stderr.fileno(), "w", encoding="ascii", closefd=False))
    ended(RequestError("фото \udcff [/b] [red] :x:"), SimpleNamespace(readouterr=lambda: SimpleNamespace(err="")))
    sys.stderr.flush()
    assert capfdbinary.readouterr().err == rb"error: \u0444\u043e\u0442\u043e \udcff [/b] [red] :x:" + b"\n"


def test_a_sweep_may_have_a_name_that_begins_with_a_hyphen():
    assert one_name(["mine"], "") == one_name(["--", "mine"], "") == "mine" and one_name(["--", "-x"], "") == "-x"
    for wrong in ([], ["-x"], ["a", "b"], ["--"]):
        with pytest.raises(RequestError):
            one_name(wrong, "usage")


def test_a_path_of_an_option_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(path_of("~/x")) == "/home/me/x" and str(path_of("a~b")) == "a~b"
