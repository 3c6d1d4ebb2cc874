"""What a command ends with: an exit code, and the same command only where it can help."""

import errno
from types import SimpleNamespace

import pytest

from toconv import errors
from toconv.command_line import run_command


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
