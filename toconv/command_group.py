"""A command with all processes that it starts: it ends in time, and with whoever runs it.

Run as a script this file is the first process of such a group: it starts the command, and kills the group once its own
input ends, which is when the process that asked for it is gone, however that went."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

GRACE_SECONDS = 10.0  # between the request to end and the end
POLL_SECONDS = 0.05
LOG_BYTES = 2**18  # of the output that is kept: the last
CANNOT_START = 127  # exit code, as a shell's


def run_group(
    words: Sequence[str], seconds: float, log: Path, directory: Path, environment: Mapping[str, str]
) -> int | None:
    """Run a command without a shell; its output goes to `log`. Returns its exit code (128 + the signal that ended it),
    or None where it was ended after so many seconds. Nothing of its process group is left."""
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    output = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
    output.start()
    try:
        in_time = _ends(process.pid, seconds)
        if not in_time:
            os.killpg(process.pid, signal.SIGTERM)
            _ends(process.pid, GRACE_SECONDS)
    finally:  # the first process is not waited for yet, so that its number is nobody else's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        output.join(GRACE_SECONDS)  # a process that left the group may hold its end open
        process.stdin.close()
    return code if in_time else None


def _ends(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _copy(source: IO[bytes], log: Path) -> None:
    """The last LOG_BYTES at least, twice as many at most. A disk that takes no more costs the rest of the log alone."""
    kept = b""
    with log.open("wb", buffering=0) as file:
        while chunk := os.read(source.fileno(), 2**16):
            kept = (kept + chunk)[-LOG_BYTES:]
            with suppress(OSError):
                if file.tell() + len(chunk) > 2 * LOG_BYTES:
                    file.seek(0)
                    file.truncate()
                    chunk = kept
                file.write(chunk)


def _main(words: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: None)  # is for the command, which decides when it ends
    try:
        command = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{words[0]}: cannot be started ({error.strerror})", file=sys.stderr)
        return CANNOT_START
    threading.Thread(target=_end_with_input, daemon=True).start()
    code = command.wait()
    return 128 - code if code < 0 else code


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
