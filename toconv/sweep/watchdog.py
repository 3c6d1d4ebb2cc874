"""A trial that is over its time ends with its worker, wherever it hangs: by a timer of Python's, and where no Python
runs any more by one that needs none."""

import faulthandler
import os
import threading
from io import TextIOWrapper

from toconv.paths import TrialPaths
from toconv.training.epochs import read_epochs

LEAST_SECONDS = 1.0  # that a trial gets which used its time up in earlier starts
HANG_SECONDS = 5.0  # after which Python's timer does not run, since compiled code lets no thread


class Watchdog:
    """Of `limits.trial_minutes`, in which what earlier starts trained counts. `barked`: the worker before was ended by
    it; where that one was stands in error.txt."""

    def __init__(self, paths: TrialPaths, minutes: float | None) -> None:
        self._file: TextIOWrapper | None = None
        self._path, self._barks = paths.overdue, threading.Lock()
        self.barked = paths.overdue.is_file() and paths.overdue.stat().st_size > 0
        if self.barked:
            os.replace(paths.overdue, paths.error)
        elif minutes is not None:
            epochs = read_epochs(paths.metrics)
            seconds = max(LEAST_SECONDS, 60 * minutes - (epochs[-1].seconds if epochs else 0.0))
            self._file = paths.overdue.open("w")
            self._timer = threading.Timer(seconds, self._bark)
            self._timer.daemon = True
            self._timer.start()
            faulthandler.dump_traceback_later(seconds + HANG_SECONDS, exit=True, file=self._file)

    def _bark(self) -> None:
        """No other thread moves on while this one has Python: without it, of one that is busy a part would be told."""
        with self._barks:
            if self._file:
                faulthandler.dump_traceback(self._file)
                os._exit(1)

    def stop(self) -> None:
        with self._barks:
            if self._file:
                self._timer.cancel()
                faulthandler.cancel_dump_traceback_later()
                self._file.close()
                self._path.unlink(missing_ok=True)
                self._file = None
