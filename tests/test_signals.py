"""Two signals end a command, also one that hangs where no handler of Python's runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.repository import REPOSITORY
from toconv.signals import sigterm_asks, two_end_it

HANGS = """
import ctypes, signal, sys, threading, time, types
import toconv.signals
from toconv.command_line import run_command

toconv.signals.GRACE_SECONDS = 0.2
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have what runs behind them ignore it
mutex = ctypes.create_string_buffer(256)

def says_once_it_does():
    while mutex.raw[0] != 2:  # in glibc: somebody waits for it
        time.sleep(0.01)
    print("hangs", flush=True)

def main(arguments):
    threading.Thread(target=says_once_it_does, daemon=True).start()
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second time it waits for itself, whatever signal comes

sys.exit(run_command(lambda: types.SimpleNamespace(main=main), []))
"""


def is_pending(pid):
    """Whether a signal was sent that the process has not taken yet."""
    status = Path(f"/proc/{pid}/status").read_text()
    return any(line.startswith("ShdPnd:") and int(line.split()[1], 16) for line in status.splitlines())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_signals_end_a_command_that_hangs_in_compiled_code(number):
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "hangs\n"
    process.send_signal(number)
    while is_pending(process.pid):  # two of one number would be one
        time.sleep(0.01)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted twice" in stderr and "to go on: " in stderr


def test_the_first_sigterm_is_a_keyboard_interrupt_and_everything_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), two_end_it(str):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is before and signal.set_wakeup_fd(-1) == -1


def test_where_sigterm_asks_the_first_is_told_and_the_second_or_ctrl_c_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_asks() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        for number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) is before
