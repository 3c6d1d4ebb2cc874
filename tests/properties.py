"""What holds of any input: a valid object or an error of ours, in 5 seconds of CPU time, half a minute of a busy
machine, and 1 GB. Tests draw inputs with hypothesis; `--hypothesis-profile=long` draws very many."""

import resource
import time
from contextlib import contextmanager

from hypothesis import HealthCheck
from hypothesis import settings as profiles

from toconv.errors import ToconvError

CPU_SECONDS, SECONDS, KIB = 5, 30, 2**20
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

profiles.register_profile(
    "check", max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET
)
profiles.register_profile("long", max_examples=20_000, deadline=None, print_blob=True, suppress_health_check=QUIET)


@contextmanager
def any_input_is_taken_or_refused():
    """Passes errors of ours by; any other exception, too much time or 1 GiB more of this process at its peak fail."""
    start, busy, peak = time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    except ToconvError as error:
        assert str(error).strip()
    assert time.process_time() - busy < CPU_SECONDS and time.monotonic() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < KIB
