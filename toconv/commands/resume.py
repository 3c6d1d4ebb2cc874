"""`toconv resume`: go on with a sweep that was paused."""

from toconv.command_line import one_name
from toconv.errors import ExitCode
from toconv.sweep.asking import ask
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv resume NAME

Trials of the sweep in outputs/NAME begin again.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    return ask(one_name(arguments, USAGE), Act.RESUME)
