"""`toconv slots`: how many trials of a sweep run at a time."""

from toconv.command_line import one_name
from toconv.errors import ExitCode, RequestError
from toconv.sweep.asking import ask
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv slots NAME COUNT

So many trials of the sweep in outputs/NAME run at a time, at most those for which the cluster had room at the start.
What runs beyond goes on to its end.
"""
MOST_DIGITS = 6


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    *words, count = arguments or [""]
    if not (count.isdecimal() and len(count) <= MOST_DIGITS and int(count)):
        raise RequestError(f"slots={count}: must be a whole number from 1 on\n{USAGE.strip()}")
    return ask(one_name(words, USAGE), Act.SLOTS, count=int(count))
