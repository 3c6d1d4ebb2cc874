"""`toconv watch`: a sweep's report in a browser while it runs, renewed as it is written anew."""

import argparse

from toconv.command_line import parse
from toconv.errors import ExitCode, RequestError
from toconv.paths import SweepPaths
from toconv.sweep.status import look

USAGE = """
usage: toconv watch NAME [--port PORT]

Serves outputs/NAME/report.html at 127.0.0.1, at a link that it prints and that nobody can guess, until Ctrl-C. The page
renews itself whenever the report is written anew, and stays as it was left. From another machine:
ssh -L PORT:127.0.0.1:PORT MACHINE

  --port       where to listen; any free port if it is not given
"""
PORTS = range(1, 65536)


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong name and where the port cannot be had."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--port", type=int)
    asked, mistakes = parse(parser, arguments, USAGE)
    if asked.port is not None and asked.port not in PORTS:
        mistakes.append(f"--port {asked.port}: must be {PORTS[0]} to {PORTS[-1]}")
    if mistakes or len(asked.names) != 1:
        raise RequestError(*mistakes or [f"give the name of one sweep\n{USAGE.strip()}"])
    paths = SweepPaths.named(asked.names[0])
    look(paths)
    from toconv.report.serving import serve  # start-up: the server, once there is something to serve

    serve(paths, asked.port or 0)
    return ExitCode.DONE
