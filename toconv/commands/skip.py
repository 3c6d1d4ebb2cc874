"""`toconv skip`: give a trial of a sweep up; another one takes its place."""

from toconv.errors import ExitCode
from toconv.sweep.asking import ask, name_and_trial
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv skip NAME --trial ID

The trial ends with the epoch at which it is, or at once where it waits, and does not count: another one is drawn for
it. It stands as failed, with who skipped it. ID is a trial_id or a name such as k=6/2 of `toconv status NAME`.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    name, trial = name_and_trial(arguments, USAGE)
    return ask(name, Act.SKIP, trial=trial)
