"""What every command shares: errors of ours end in one message and their exit code."""

import argparse
import gc
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType

from toconv.errors import ExitCode, RequestError, ToconvError


def run_command(load: Callable[[], ModuleType], arguments: list[str]) -> int:
    """Run `main` of the module that `load` gives; whatever stops it, the last line says how to go on."""
    signal.signal(signal.SIGTERM, _interrupt)
    collect_seldom()
    how_to_go_on = same_command
    try:
        command = load()
        how_to_go_on = getattr(command, "how_to_go_on", same_command)
        if {"-h", "--help"} & set(arguments):
            print(command.USAGE.strip())
            return ExitCode.DONE
        return int(command.main(arguments))
    except ToconvError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.exit_code != ExitCode.REQUEST:
            print(how_to_go_on(), file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if str(error.name).startswith("toconv"):
            raise
        print(
            f"error: {error.name} is not installed, which this command needs beside what a compressor needs; run:\n"
            '  pip install "toconv[sweep]", or in the repository pip install -e ".[sweep]"',
            file=sys.stderr,
        )
        return ExitCode.REQUEST
    except OSError as error:
        print(f"error: the disk or the system gave way: {error}\n{how_to_go_on()}", file=sys.stderr)
        return ExitCode.MACHINERY
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was finished is kept\n{how_to_go_on()}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    finally:
        gc.freeze()  # else the interpreter's end looks through all objects for garbage: three seconds after a sweep


def parse(parser: argparse.ArgumentParser, arguments: list[str], usage: str) -> tuple[argparse.Namespace, list[str]]:
    """What was asked, and what of it is no option. Raises RequestError where it cannot be understood at all."""
    try:
        asked, unknown = parser.parse_known_intermixed_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        raise RequestError(f"not understood: {' '.join(arguments)}\n{usage.strip()}") from None
    return asked, [f"{word}: no such option" for word in unknown]


def one_name(arguments: list[str], usage: str) -> str:
    """The name of the one sweep that a command is about."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise RequestError(f"give the name of one sweep\n{usage.strip()}")
    return arguments[0]


def collect_seldom() -> None:
    """Look for garbage after 50000 new objects instead of 700 (gc.set_threshold): imports make many and leave none,
    and took a sixth longer for the looking."""
    gc.set_threshold(50_000, 20, 100)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def typed() -> str:
    """The command as it was typed: of the installed command, of `python -m toconv`, or of a script."""
    script, *arguments = sys.argv
    installed = Path(script).suffix != ".py" or Path(script).name == "__main__.py"
    return shlex.join([*(["toconv"] if installed else ["python", script]), *arguments])


def same_command() -> str:
    """The command as it was typed, ready to paste."""
    return f"to go on: {typed()}"
