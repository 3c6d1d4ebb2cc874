"""`toconv status`: what of a sweep runs, since when, how long it still takes, what failed and why."""

import argparse
import json
import time
from contextlib import suppress

from toconv.command_line import parse
from toconv.errors import ExitCode, RequestError
from toconv.paths import OUTPUTS, SweepPaths
from toconv.progress import LIVE, console
from toconv.sweep.running import at_work
from toconv.sweep.status import Status, lines, look, sweeps

USAGE = """
usage: toconv status [NAME] [--watch] [--json]

How the sweep in outputs/NAME stands; without a name, each sweep of outputs/ that runs now.

  --watch      again every 2 seconds, until nothing runs
  --json       one JSON object a sweep, a line each; times are seconds since the epoch
"""
WATCH_SECONDS = 2.0


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked, mistakes = parse(parser, arguments, USAGE)
    if mistakes or len(asked.names) > 1:
        raise RequestError(*mistakes or [f"give the name of one sweep, or none\n{USAGE.strip()}"])
    with suppress(KeyboardInterrupt):
        while _show(asked.names, asked.json, asked.watch) and asked.watch:
            time.sleep(WATCH_SECONDS)
    return ExitCode.DONE


def _show(names: list[str], as_json: bool, watch: bool) -> bool:
    """Returns whether anything runs."""
    found = (
        [look(SweepPaths.named(name)) for name in names]
        if names
        else [look(paths) for paths in sweeps() if at_work(paths)]
    )
    if watch and LIVE and not as_json:
        console.clear()
    for status in found:
        _print(status, as_json)
    if not found and not as_json:
        console.print(f"no sweep of {OUTPUTS.resolve()} runs now; `toconv ls` lists them")
    return any(status.at_work for status in found)


def _print(status: Status, as_json: bool) -> None:
    for line in [json.dumps(status.as_json())] if as_json else lines(status):
        console.print(line)
