"""A trial that is over its time ends with its worker, wherever it hangs: by a timer that needs no Python to run."""

import faulthandler
import os
from io import TextIOWrapper

from toconv.paths import TrialPaths
from toconv.training.epochs import read_epochs

LEAST_SECONDS = 1.0  # that a trial gets which used its time up in earlier starts


class Watchdog:
    """Of `limits.trial_minutes`, in which what earlier starts trained counts. `barked`: the worker before was ended by
    it; where that one was stands in error.txt."""

    def __init__(self, paths: TrialPaths, minutes: float | None) -> None:
        self._file: TextIOWrapper | None = None
        self._path = paths.overdue
        self.barked = paths.overdue.is_file() and paths.overdue.stat().st_size > 0
        if self.barked:
            os.replace(paths.overdue, paths.error)
        elif minutes is not None:
            epochs = read_epochs(paths.metrics)
            seconds = max(LEAST_SECONDS, 60 * minutes - (epochs[-1].seconds if epochs else 0.0))
            self._file = paths.overdue.open("w")
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._file)

    def stop(self) -> None:
        if self._file:
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            self._path.unlink(missing_ok=True)
