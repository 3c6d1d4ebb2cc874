"""What every command shares: errors of ours end in one message and their exit code."""

import argparse
import gc
import io
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from toconv.errors import WRONG_PATHS, ExitCode, RequestError, ToconvError, first_line, out_of_memory
from toconv.redaction import redact
from toconv.signals import two_end_it


def run_command(load: Callable[[], ModuleType], arguments: list[str], says: str = "") -> int:
    """Run `main` of the module that `load` gives. `says` begins the first line; the last line says how to go on,
    whatever stopped it."""
    collect_seldom()
    _print_anything()
    how_to_go_on = [same_command]
    try:
        if says:
            _say_first(says)
        with two_end_it(lambda: how_to_go_on[0]()):
            return _run(load, arguments, how_to_go_on)
    except ToconvError as error:
        return _refused(error, how_to_go_on[0])
    except ModuleNotFoundError as error:
        if str(error.name).startswith("toconv"):
            return _unforeseen(error, how_to_go_on[0]())
        print(
            f"error: {error.name} is not installed, which this command needs beside what a compressor needs; run:\n"
            '  pip install "toconv[sweep]", or in the repository pip install -e ".[sweep]"',
            file=sys.stderr,
        )
        return ExitCode.REQUEST
    except OSError as error:
        if error.errno in WRONG_PATHS:
            print(f"error: a path cannot be used: {error}", file=sys.stderr)
            return ExitCode.REQUEST
        print(f"error: the disk or the system gave way: {error}\n{how_to_go_on[0]()}", file=sys.stderr)
        return ExitCode.MACHINERY
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was finished is kept\n{how_to_go_on[0]()}", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except Exception as error:
        return _unforeseen(error, how_to_go_on[0]())
    finally:
        gc.freeze()  # else the interpreter's end looks through all objects for garbage: three seconds after a sweep


def _run(load: Callable[[], ModuleType], arguments: list[str], how_to_go_on: list[Callable[[], str]]) -> int:
    """`how_to_go_on` gets the command's own way, where it has one."""
    from toconv.progress import heartbeat  # start-up: rich, after the first line

    with heartbeat():
        command = load()
        how_to_go_on[0] = getattr(command, "how_to_go_on", same_command)
        if {"-h", "--help"} & set(arguments):
            print(command.USAGE.strip())
            return ExitCode.DONE
        return int(command.main(arguments))


def _refused(error: ToconvError, how_to_go_on: Callable[[], str]) -> int:
    """An error's message and exit code; the command to go on only where it can help."""
    print(f"error: {redact(str(error))}", file=sys.stderr)
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in WRONG_PATHS:
        return ExitCode.REQUEST
    if error.same_command_helps:
        print(how_to_go_on(), file=sys.stderr)
    return error.exit_code


def _say_first(command: str) -> None:
    """The first line, before imports that take seconds: what starts, and the one rule for where it writes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # in a pipe too
    print(f"toconv {command}; outputs/, mlflow.db, checkpoints/ and relative paths are of {Path.cwd()}", flush=True)


def _unforeseen(error: Exception, how_to_go_on: str) -> ExitCode:
    """What no module foresaw: too little memory, or a fault of ours, which is shown whole. A debugger stops there."""
    if sys.gettrace() is not None:
        raise error
    if out_of_memory(error):
        print(f"error: out of memory: {first_line(error)}\n{how_to_go_on}", file=sys.stderr)
        return ExitCode.MACHINERY
    trace = "".join(traceback.format_exception(error))
    print(
        redact(f"{trace}error: not foreseen, {type(error).__name__}: {first_line(error)}\n{how_to_go_on}"),
        file=sys.stderr,
    )
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


def typed() -> str:
    """The command as it was typed, without secrets: of the installed command, of `python -m toconv`, or of a script."""
    script, *arguments = map(redact, sys.argv)
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
