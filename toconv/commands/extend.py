"""`toconv extend`: train trials of a sweep for more epochs."""

import argparse

from toconv.command_line import parse
from toconv.errors import ExitCode, RequestError
from toconv.sweep.asking import ask
from toconv.sweep.inbox import Act

USAGE = """
usage: toconv extend NAME --epochs COUNT --trials best:N|ID … [--anew]

Complete trials of the sweep in outputs/NAME, given by name or trial_id, or the N best of each cell by the first
objective, as trials of COUNT epochs beside them. Each begins where the trial ended, with the schedule of its learning
rate begun anew over the epochs that are left; that is not the same as COUNT epochs from the start, which --anew gives.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("name")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--trials", nargs="+", default=[])
    parser.add_argument("--anew", action="store_true")
    asked, mistakes = parse(parser, arguments, USAGE)
    if mistakes or not asked.epochs or not asked.trials:
        raise RequestError(*mistakes or [f"say --epochs and --trials\n{USAGE.strip()}"])
    if not 1 <= asked.epochs <= 2**16:
        raise RequestError(f"--epochs {asked.epochs}: must be a whole number from 1 to {2**16}")
    return ask(asked.name, Act.EXTEND, count=asked.epochs, trials=tuple(asked.trials), anew=asked.anew)
