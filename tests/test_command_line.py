"""What a command ends with: an exit code, and the same command only where it can help; what it prints can be pasted."""

import errno
import sys
from types import SimpleNamespace

import pytest

from tests.pasting import pasted
from toconv import errors
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


def caused(error, by):
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    "error",
    [
        errors.RequestError("no"),
        errors.CheckpointError("half.pt: not readable as a checkpoint"),
        errors.EncoderError("a token is not finite"),
        PermissionError(errno.EACCES, "Permission denied", "/x"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"),
        OSError(errno.EROFS, "Read-only file system", "/x"),
        caused(errors.MachineryError("x: not written"), PermissionError(errno.EACCES, "Permission denied")),
    ],
)
def test_a_wrong_request_is_2_and_is_not_to_be_repeated(error, capsys):
    code, told = ended(error, capsys)
    assert code == 2 and told.startswith("error: ") and "to go on" not in told


@pytest.mark.parametrize(
    "error",
    [
        errors.MachineryError("the raylet is gone"),
        errors.StoreError("damaged"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        caused(errors.MachineryError("x: not written"), OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_machinery_that_gave_way_is_4_and_says_how_to_go_on(error, capsys):
    code, told = ended(error, capsys)
    assert code == 4 and "\nto go on: " in told


@pytest.mark.parametrize(("error", "code"), [(errors.TrainingFailed("nan"), 3), (errors.GraphDiffers("0.1"), 4)])
def test_what_fails_the_same_way_again_is_not_to_be_repeated(error, code, capsys):
    found, told = ended(error, capsys)
    assert found == code and "to go on" not in told


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
