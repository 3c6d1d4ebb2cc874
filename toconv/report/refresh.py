"""The process that writes report.html anew while its sweep runs: a page for each word of the driver's."""

import os
import select
import signal
import sys
import time
from pathlib import Path

from toconv.errors import told
from toconv.paths import SweepPaths, write_atomic
from toconv.redaction import redact
from toconv.sweep.recorded import read_request

NICENESS = 19  # below trials, whose workers Ray starts at 15
REST = 9  # times as long as a refresh took it rests: a tenth of a core at most
INPUT = 0  # the driver's words; it ends where the driver does, however that ends


def main(root: str, every_seconds: str) -> None:
    """Whatever came in meanwhile is one word. Ends at the first failure, with its reason as last line."""
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    while os.read(INPUT, 4096):
        try:
            took = refresh(SweepPaths(Path(root)))
        except Exception as error:
            sys.exit(redact(f"{type(error).__name__}: {told(error)}"))
        if alone(max(float(every_seconds) - took, REST * took)):
            return


def refresh(paths: SweepPaths) -> float:
    """Unless the driver is gone by then, whose next start may have written a later page. Returns how long it took, in
    seconds, without the imports."""
    facts = read_request(paths)
    from toconv.report.content import gather  # start-up: torch, which is of no use where that raises
    from toconv.report.write import text_of
    from toconv.sweep.session import recorded_driver

    start = time.monotonic()
    text = text_of(gather(recorded_driver(paths), facts))
    if not alone(0.0):
        write_atomic(paths.report, text)
    return time.monotonic() - start


def alone(seconds: float) -> bool:
    """Whether the driver is gone, or goes within these seconds."""
    gone = select.poll()
    gone.register(INPUT, 0)
    return bool(gone.poll(1000 * seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
