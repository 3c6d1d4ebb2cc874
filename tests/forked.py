"""A command in a process that is forked from one which has imported what commands import: the same code, sooner.

What a sweep imports takes longer than most sweeps of the tests. Commands whose imports, start or environment a test is
about start as people start them.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.repository import REPOSITORY

WITHOUT = REPOSITORY / "tests" / "without"
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.imported"])


class Forked:
    """`python SCRIPT ARGUMENTS` in a folder and a process group of its own; asked as `subprocess.Popen` is."""

    def __init__(self, folder, script, arguments, environment=None):
        self.args = [sys.executable, str(script), *map(str, arguments)]
        self._printed = [Path(tempfile.mkstemp(prefix=name)[1]) for name in ("stdout", "stderr")]
        environment = _with_path(os.environ if environment is None else environment)
        self._process = PROCESSES.Process(target=_run, args=(self.args[1:], str(folder), self._printed, environment))
        self._process.start()
        self.pid = self._process.pid
        with suppress(ProcessLookupError):  # ended
            while self.poll() is None and os.getpgid(self.pid) != self.pid:
                time.sleep(0.001)

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number):
        with suppress(ProcessLookupError):  # the server of forks reaps at once
            os.kill(self.pid, number)

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout, *self._texts())
        return self.returncode

    def communicate(self, timeout=None):
        """(stdout, stderr) once it has ended."""
        self.wait(timeout)
        return self._texts()

    def completed(self, timeout):
        """As `subprocess.run` with captured output."""
        try:
            return subprocess.CompletedProcess(self.args, self.wait(timeout), *self._texts())
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def _texts(self):
        return tuple(path.read_text() for path in self._printed)


def _with_path(environment):
    path = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, (str(WITHOUT), path)))}


def _run(arguments, folder, printed, environment):
    from tests.imported import ENVIRONMENT  # there already

    os.setsid()
    for number, path in enumerate(printed, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(ENVIRONMENT | environment)
    os.chdir(folder)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
