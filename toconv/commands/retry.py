"""`toconv retry`: run failed trials of a sweep again."""

from toconv.command_line import one_name
from toconv.errors import ExitCode, RequestError
from toconv.sweep.asking import ask, name_and_trial
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv retry NAME --failed
       toconv retry NAME --trial ID

Every failed trial of the sweep in outputs/NAME, or the one with this trial_id or name, is run again with the same
settings, before any other begins.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    if ("--failed" in arguments) == any(word.startswith("--trial") for word in arguments):
        raise RequestError(f"say --failed, or which --trial\n{USAGE.strip()}")
    if "--failed" in arguments:
        return ask(one_name([word for word in arguments if word != "--failed"], USAGE), Act.RETRY)
    name, trial = name_and_trial(arguments, USAGE)
    return ask(name, Act.RETRY, trial=trial)
