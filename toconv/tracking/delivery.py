"""Records on their way to tracking, beside the sweep."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toconv.analysis.records import TrialRecord
from toconv.errors import told
from toconv.redaction import redact
from toconv.tracking.tracker import Tracker

CLOSE_SECONDS = 120.0  # that a server has for the parent run's end and its files
HEAD_START = 6.0  # seconds in which workers start before this thread imports MLflow beside them


class BackgroundTracker:
    """One thread that delivers records, so that a slow or dead server is off the sweep's path."""

    def __init__(self, trackers: Sequence[Tracker], params: Mapping[str, Any]) -> None:
        self._trackers, self._params = trackers, params
        self._waiting: dict[str, TrialRecord] = {}
        self._lock, self._hurry = threading.Lock(), threading.Event()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.error: str | None = None
        self._opened = False
        threading.Thread(target=self._work, daemon=True, name="tracking").start()

    def submit(self, record: TrialRecord) -> None:
        """Deliver soon; a newer record of the same trial takes the place of an older one."""
        with self._lock:
            self._waiting[record.trial_id] = record
        self._wake.put(None)

    def _work(self) -> None:
        self._hurry.wait(HEAD_START)
        while True:
            self._wake.get()
            while not self._wake.empty():
                self._wake.get()
            self._deliver()

    def _deliver(self) -> None:
        while True:
            with self._lock:
                record = next(iter(self._waiting.values()), None)
            if record is None:
                return
            try:
                if not self._opened:
                    for tracker in self._trackers:
                        tracker.open(self._params)
                    self._opened = True
                for tracker in self._trackers:
                    tracker.sync(record)
                self.error = None
            except Exception as error:  # whatever a tracking server can do wrong
                self.error = redact(f"{type(error).__name__}: {told(error)}")
                return
            with self._lock:
                if self._waiting.get(record.trial_id) is record:
                    del self._waiting[record.trial_id]

    def flush(self, seconds: float) -> int:
        """Wait for deliveries until none arrives for so long; returns how many records could not be delivered."""
        self._hurry.set()
        end, before = time.monotonic() + seconds, len(self._waiting)
        self._wake.put(None)
        while time.monotonic() < end:
            with self._lock:
                left = len(self._waiting)
            if not left:
                return 0
            if left < before:
                end, before = time.monotonic() + seconds, left
            if self.error:
                self._wake.put(None)
                time.sleep(0.5)
            time.sleep(0.05)
        return len(self._waiting)

    def waiting(self) -> int:
        """Records that are still to be delivered."""
        return len(self._waiting)

    def why(self) -> str:
        """What keeps records waiting."""
        return self.error or "it did not answer yet"

    def run_ids(self) -> dict[str, str]:
        return {trial_id: run for tracker in self._trackers for trial_id, run in tracker.run_ids().items()}

    def page(self) -> str:
        return next(filter(None, (tracker.page() for tracker in self._trackers)), "")

    def close(self, status: str, records: Sequence[TrialRecord], files: Mapping[str, Path]) -> None:
        """End the parent run with what the sweep found and its files, if the server lets us within CLOSE_SECONDS."""

        def work() -> None:
            try:
                for tracker in self._trackers:
                    tracker.close(status, records, files)
            except Exception as error:
                self.error = redact(str(error))

        if self._opened and not self.error:
            thread = threading.Thread(target=work, daemon=True, name="tracking-close")
            thread.start()
            thread.join(CLOSE_SECONDS)
            if thread.is_alive():
                self.error = f"no answer within {CLOSE_SECONDS:.0f} s"
