import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from toconv.errors import MachineryError
from toconv.sweep.interrupt import Interrupt


def through_compiled_code(wait):
    """What Ray's compiled calls do to an exception of a signal handler."""
    try:
        wait()
    except BaseException as error:
        raise SystemError("returned a result with an exception set") from error


def send(number):
    os.kill(os.getpid(), number)
    time.sleep(0.01)


def test_the_first_signal_asks_and_the_second_interrupts_also_through_compiled_code():
    told = []
    interrupt = Interrupt(lambda: told.append("asked"))
    with pytest.raises(KeyboardInterrupt), interrupt.handling(lambda: None):
        send(signal.SIGINT)
        assert interrupt.asked and told == ["asked"]
        through_compiled_code(lambda: send(signal.SIGTERM))
    assert told == ["asked"]


def test_lost_machinery_interrupts_what_waits_for_it_also_through_compiled_code(monkeypatch):
    monkeypatch.setattr("toconv.sweep.interrupt.POLL_SECONDS", 0.05)
    waits = threading.Event()
    asleep = SimpleNamespace(sleep=lambda seconds: waits.set() or threading.Event().wait())
    monkeypatch.setattr("toconv.sweep.interrupt.time", asleep)  # what ends this process later never does
    with (
        pytest.raises(MachineryError, match="the raylet is gone"),
        Interrupt(list).handling(lambda: "the raylet is gone"),
    ):
        through_compiled_code(lambda: time.sleep(30))
    assert waits.wait(60)


def test_an_error_that_no_signal_caused_stays_as_it_is_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), Interrupt(list).handling(lambda: None):
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is before
