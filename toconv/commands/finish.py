"""`toconv finish`: no new trials in a sweep; what runs ends, then finalists and report."""

from toconv.command_line import one_name
from toconv.errors import ExitCode
from toconv.sweep.asking import ask
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv finish NAME

No trial of the sweep in outputs/NAME is drawn any more. Those that began go on to their end, then finalists run and the
report is written. The sweep's own command, started again afterwards, draws the rest.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    return ask(one_name(arguments, USAGE), Act.FINISH)
