"""`toconv stop`: end a trial of a sweep at its epoch; it keeps its numbers."""

from toconv.errors import ExitCode
from toconv.sweep.asking import ask, name_and_trial
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv stop NAME --trial ID

The trial ends with the epoch at which it is, and counts as pruned: its numbers stay, and no other takes its place. ID
is a trial_id or a name such as k=6/2, as `toconv status NAME` has them.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    name, trial = name_and_trial(arguments, USAGE)
    return ask(name, Act.STOP, trial=trial)
