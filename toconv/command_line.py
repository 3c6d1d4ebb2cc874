"""What every command shares: errors of ours end in one message and their exit code."""

import argparse
import gc
import io
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType, ModuleType

from toconv.errors import ExitCode, RequestError, ToconvError, first_line, out_of_memory


def run_command(load: Callable[[], ModuleType], arguments: list[str]) -> int:
    """Run `main` of the module that `load` gives; whatever stops it, the last line says how to go on."""
    signal.signal(signal.SIGTERM, _interrupt)
    collect_seldom()
    _print_anything()
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
            return _unforeseen(error, how_to_go_on())
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
    except Exception as error:
        return _unforeseen(error, how_to_go_on())
    finally:
        gc.freeze()  # else the interpreter's end looks through all objects for garbage: three seconds after a sweep


def _unforeseen(error: Exception, how_to_go_on: str) -> ExitCode:
    """What no module foresaw: too little memory, or a fault of ours, which is shown whole. A debugger stops there."""
    if sys.gettrace() is not None:
        raise error
    if out_of_memory(error):
        print(f"error: out of memory: {first_line(error)}\n{how_to_go_on}", file=sys.stderr)
        return ExitCode.MACHINERY
    traceback.print_exception(error)
    print(f"error: not foreseen, {type(error).__name__}: {first_line(error)}\n{how_to_go_on}", file=sys.stderr)
    return ExitCode.MACHINERY


def parse(parser: argparse.ArgumentParser, arguments: list[str], usage: str) -> tuple[argparse.Namespace, list[str]]:
    """What was asked, and what of it is no option. Raises RequestError where it cannot be understood at all."""
    try:
        asked, unknown = parser.parse_known_intermixed_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        raise RequestError(f"not understood: {' '.join(arguments)}\n{usage.strip()}") from None
    return asked, [f"{word}: no such option" for word in unknown]


def one_name(arguments: list[str], usage: str) -> str:
    """The name of the one sweep that a command is about; after `--` it may begin with a hyphen."""
    words = arguments[1:] if arguments[:1] == ["--"] else arguments
    if len(words) != 1 or (words == arguments and words[0].startswith("-")):
        raise RequestError(f"give the name of one sweep\n{usage.strip()}")
    return words[0]


def path_of(word: str) -> Path:
    """The path that an option names: shells leave `~` in `--to=~/x` as it stands."""
    return Path(os.path.expanduser(word))


def _print_anything() -> None:
    """Names of files are any bytes, and terminals have their own characters: escapes stand for what they lack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
    return pasteable([*(["toconv"] if installed else ["python", script]), *arguments])


def pasteable(words: Iterable[str]) -> str:
    """A command that bash and zsh split into these words again; zsh looks for a program behind a leading `=`."""
    return " ".join(
        f"'{word}'" if word.startswith("=") and shlex.quote(word) == word else shlex.quote(word) for word in words
    )


def same_command() -> str:
    """The command as it was typed, ready to paste."""
    return f"to go on: {typed()}"
