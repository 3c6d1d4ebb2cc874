"""What every command shares: errors of ours end in one message and their exit code."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from typing import Any

from toconv.errors import ExitCode, ToconvError


def run(command: Callable[[list[str]], ExitCode], usage: str, how_to_go_on: Callable[[], str]) -> int:
    """Run `command` on the process's arguments; whatever stops it, the last line says how to go on."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        return ExitCode.DONE
    signal.signal(signal.SIGTERM, _interrupt)
    collect_seldom()
    try:
        return command(arguments)
    except ToconvError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.exit_code != ExitCode.REQUEST:
            print(how_to_go_on(), file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if str(error.name).startswith("toconv"):
            raise
        print(f"error: {error.name} is not installed, which this command needs beside what a compressor needs; in the "
              'repository: pip install -e ".[sweep]"', file=sys.stderr)
        return ExitCode.REQUEST
    except OSError as error:
        print(f"error: the disk or the system gave way: {error}\n{how_to_go_on()}", file=sys.stderr)
        return ExitCode.MACHINERY
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was finished is kept\n{how_to_go_on()}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    finally:
        gc.freeze()  # the interpreter's end looks through all objects for garbage otherwise: three seconds after a sweep


def collect_seldom() -> None:
    """Look for garbage after 50000 new objects instead of 700 (gc.set_threshold): imports make many and leave none,
    and took a sixth longer for the looking."""
    gc.set_threshold(50_000, 20, 100)


def _interrupt(number: int, frame: Any) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def same_command() -> str:
    """The command as it was typed, ready to paste."""
    import shlex

    return f"to go on: {shlex.join(['python', *sys.argv])}"
