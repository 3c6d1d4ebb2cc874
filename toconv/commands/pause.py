"""`toconv pause`: begin nothing new in a sweep; what runs goes on."""

from toconv.command_line import one_name
from toconv.errors import ExitCode
from toconv.sweep.asking import ask
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv pause NAME

No trial of the sweep in outputs/NAME begins until `toconv resume NAME`, a later start included. Running trials go on.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    return ask(one_name(arguments, USAGE), Act.PAUSE)
