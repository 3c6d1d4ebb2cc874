"""Delivery beside a sweep has an end, whatever a tracking server does."""

import threading
import time

import pytest

from tests.records import record
from toconv.commands.train import _deliver
from toconv.errors import MachineryError
from toconv.tracking import delivery
from toconv.tracking.delivery import BackgroundTracker
from toconv.tracking.tracker import Tracker


class Server(Tracker):
    """A tracker whose server takes records; `hangs` holds up whatever it names."""

    def __init__(self, *hangs):
        super().__init__(None, None)
        self.hangs, self.taken, self.let_go = hangs, [], threading.Event()

    def sync(self, record):
        self._meet("sync")
        self.taken.append(record.trial_id)

    def close(self, status, records, files):
        self._meet("close")
        self.taken.append(status)

    def _meet(self, name):
        if name in self.hangs:
            self.let_go.wait(120)


@pytest.mark.parametrize("hangs", [(), ("close",), ("sync", "close")])
def test_the_end_of_a_sweep_waits_for_a_server_only_so_long(hangs, monkeypatch):
    monkeypatch.setattr(delivery, "HEAD_START", 0.0)
    monkeypatch.setattr(delivery, "CLOSE_SECONDS", 0.2 if "close" in hangs else 60.0)
    server = Server(*hangs)
    tracker = BackgroundTracker([server], {})
    tracker.submit(record("a", 16, 0.5))
    start = time.monotonic()
    assert tracker.flush(1.0 if "sync" in hangs else 60.0) == tracker.waiting() == ("sync" in hangs)
    assert not hangs or tracker.why() == "it did not answer yet"
    tracker.close("FINISHED", [], {})
    assert time.monotonic() - start < 60
    assert (tracker.error == "no answer within 0 s") == ("close" in hangs)
    assert server.taken == ([] if "sync" in hangs else ["a"] if hangs else ["a", "FINISHED"])
    server.let_go.set()


def test_a_training_that_cannot_be_delivered_says_so_without_a_password():
    class Gone(Server):
        def sync(self, record):
            raise ConnectionError("no route to http://me:secret@host:5000")

    with pytest.raises(MachineryError, match=r"training is done, but not delivered: no route to http://\*\*\*@host"):
        _deliver([Gone()], record("a", 16, 0.5))
