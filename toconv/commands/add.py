"""`toconv add`: a trial by hand in a sweep, the next of its cell."""

from toconv.config import parse_overrides
from toconv.errors import ExitCode, RequestError
from toconv.sweep.asking import ask
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv add NAME key=value …

A trial of the sweep in outputs/NAME with these values, the next that begins; searched settings that are left out are
drawn. Where the sweep has several cells, give what is enumerated too, e.g. model.compressor.output_grid_size=6.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    name, *texts = arguments[1:] if arguments[:1] == ["--"] else arguments or [""]
    if not texts or not name or name.startswith("-") or "=" in name:
        raise RequestError(f"give the name of one sweep, and values\n{USAGE.strip()}")
    return ask(name, Act.ADD, params=parse_overrides(texts))
