"""report.html while its sweep runs: written anew by a process beside the driver, which does not wait for it."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from toconv.paths import PACKAGE
from toconv.progress import console

EVERY_SECONDS = 30.0  # at most
END_SECONDS = 5.0  # that the process has to take its unfinished file away
SCRIPT = "toconv.report.refresh"


class Refreshing:
    """Call `poll` as often as you like. The process starts once there is something to show, ends with the block, and is
    started anew where it ended by itself, which is said."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the block's end closes it
        self._shown = 0  # how many trials had ended when the process was last told
        self._due = time.monotonic() + EVERY_SECONDS
        self._said: str | None = None

    def __enter__(self) -> "Refreshing":
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            _end(self._process)
        self._errors.close()

    def poll(self, ended: int) -> None:
        """`ended`: how many trials have."""
        if self._process and self._process.poll() is not None:
            self._say(self._why(self._process.returncode))
            self._process = None
        if ended != self._shown and time.monotonic() > self._due:
            self._shown, self._due = ended, time.monotonic() + EVERY_SECONDS
            self._tell()

    def _tell(self) -> None:
        try:
            self._process = self._process or self._start()
            assert self._process.stdin
            self._process.stdin.write(b"\n")  # one byte each EVERY_SECONDS: the pipe has room for days
        except OSError as error:
            self._say(error.strerror or type(error).__name__)

    def _start(self) -> "subprocess.Popen[bytes]":
        """In a process group of its own, so that Ctrl-C is the driver's; it ends with its input."""
        path = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
        self._errors.seek(0)
        self._errors.truncate()
        return subprocess.Popen(
            [sys.executable, "-P", "-m", SCRIPT, str(self._root), str(EVERY_SECONDS)],
            env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            bufsize=0,
            process_group=0,
        )

    def _why(self, code: int) -> str:
        """Its last words."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")

    def _say(self, why: str) -> None:
        if why != self._said:
            console.print(f"the report was not refreshed ({why}); the sweep goes on, and writes it at its end")
            self._said = why


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
