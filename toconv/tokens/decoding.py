"""Picture files → RGB pixels, decoded in processes of their own: a damaged file costs one picture. Needs no torch."""

import atexit
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from toconv.errors import DataError, MachineryError
from toconv.settings import MAX_PIXELS

SCRIPT = Path(__file__).with_name("picture_decoder.py")
BYTES_A_PIXEL, LEAST_MEMORY = 10, 2**30  # a decoder may take: Pillow's 4, its plugin's, and a turned copy
PIXELS_A_SECOND, LEAST_SECONDS = 25_000_000, 4.0  # of CPU time
PIPE_BYTES = 2**20


@dataclass(frozen=True)
class Rgb:
    """Pixels of a picture as bytes: rows of columns of red, green, blue."""

    height: int
    width: int
    content: bytearray


class DecoderEndedError(Exception):
    """The process ended before it answered; says why."""


class Decoder:
    """One process that decodes one picture after the other."""

    def __init__(self) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen([sys.executable, "-P", str(SCRIPT)], **pipes, pipesize=PIPE_BYTES)
        except OSError as error:
            raise MachineryError(f"no process could be started that decodes pictures ({error.strerror})") from error
        if not _pipe(self._process.stdout).readline():
            code = self._process.wait()
            raise MachineryError(
                f"the process that decodes pictures ended at its start (exit code {code}); it needs Pillow: "
                "pip install pillow"
            )

    def decode(self, path: Path, max_pixels: int, side: int | None = None) -> Rgb:
        """With `side`, a square of grey. Raises DataError that names a picture which cannot be read, DecoderEndedError
        where the process ended."""
        limits = {
            "max_pixels": max_pixels,
            "memory": max(LEAST_MEMORY, BYTES_A_PIXEL * max_pixels),
            "seconds": max(LEAST_SECONDS, max_pixels / PIXELS_A_SECOND),
        }
        answers = _pipe(self._process.stdout)
        try:
            questions = _pipe(self._process.stdin)
            questions.write(json.dumps({"path": str(path.absolute()), "side": side, **limits}).encode() + b"\n")
            questions.flush()
            answer = json.loads(answers.readline())
        except (BrokenPipeError, ValueError) as error:
            raise DecoderEndedError(self._why_ended(limits["seconds"])) from error
        if "reason" in answer:
            raise DataError(f"{path}: {answer['reason']}")
        width, height = answer["size"]
        content = bytearray((1 if side else 3) * width * height)
        if answers.readinto(content) != len(content):
            raise DecoderEndedError(self._why_ended(limits["seconds"]))
        return Rgb(height, width, content)

    def _why_ended(self, seconds: float) -> str:
        self.end()
        code = self._process.wait()
        if code == -signal.SIGPROF:
            return f"decoding takes more than {seconds:g} s"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"not a picture that can be read (the decoder ended with {name})"

    def end(self) -> None:
        """Its process ends with its input."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                _pipe(pipe).close()
        self._process.wait()


def _pipe(found: IO[bytes] | None) -> Any:
    assert found is not None  # asked for as a pipe
    return found


_idle: SimpleQueue[Decoder] = SimpleQueue()  # of this process


def decode(path: Path, max_pixels: int = MAX_PIXELS) -> Rgb:
    """The first frame of a picture in 8 bits, turned as EXIF says. Raises DataError that names a picture which cannot
    be read, is larger, or takes too much memory or time. Threads that call it have a process each."""
    return _decoded(path, max_pixels)


def thumbnail(path: Path, max_pixels: int, side: int) -> bytearray:
    """side·side grey values of it, squeezed into a square. Raises as `decode` does."""
    return _decoded(path, max_pixels, side).content


def _decoded(path: Path, max_pixels: int, side: int | None = None) -> Rgb:
    try:
        decoder = _idle.get_nowait()
    except Empty:
        decoder = Decoder()
    try:
        found = decoder.decode(path, max_pixels, side)
    except DecoderEndedError as error:
        raise DataError(f"{path}: {error}") from error
    except DataError:
        _idle.put(decoder)
        raise
    except BaseException:  # in the middle of an answer
        decoder.end()
        raise
    _idle.put(decoder)
    return found


def end_decoders() -> None:
    """End the processes that wait for pictures."""
    while True:
        try:
            _idle.get_nowait().end()
        except Empty:
            return


def _forget_decoders() -> None:
    """A fork talks to none of its parent's."""
    global _idle
    _idle = SimpleQueue()


os.register_at_fork(after_in_child=_forget_decoders)
atexit.register(end_decoders)
