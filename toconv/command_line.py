"""What every command shares: errors of ours end in one message and their exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from toconv.errors import ExitCode, ToconvError


def run(command: Callable[[list[str]], ExitCode], usage: str, how_to_go_on: Callable[[], str]) -> int:
    """Run `command` on the process's arguments; whatever stops it, the last line says how to go on."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        return ExitCode.DONE
    try:
        return command(arguments)
    except ToconvError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.exit_code != ExitCode.REQUEST:
            print(how_to_go_on(), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was finished is kept\n{how_to_go_on()}", file=sys.stderr)
        return ExitCode.INTERRUPTED


def same_command() -> str:
    """The command as it was typed, ready to paste."""
    import shlex

    return f"to go on: {shlex.join(['python', *sys.argv])}"
