"""The command `toconv`; `run_sweep.py` and `train.py` are its first two."""

import sys
from collections.abc import Sequence
from importlib import import_module

from toconv.command_line import run_command
from toconv.errors import ExitCode

COMMANDS = {  # a file each in toconv/commands
    "sweep": "run a sweep, or go on with it: FILE [key=value …] [--dry-run | --debug]",
    "status": "what runs, since when, how long it still takes, what failed: [NAME] [--watch] [--json]",
    "watch": "the report in a browser, renewed while the sweep runs: NAME [--port PORT]",
    "ls": "the sweeps of outputs/, and how each stands",
    "add": "a trial by hand, the next of its cell: NAME key=value …",
    "stop": "end a trial at its epoch, which keeps its numbers: NAME --trial ID",
    "skip": "give a trial up, another takes its place: NAME --trial ID",
    "retry": "run failed trials again: NAME --failed",
    "finish": "no new trials, then finalists and report: NAME",
    "pause": "begin nothing new: NAME",
    "resume": "go on after a pause: NAME",
    "slots": "how many trials run at a time: NAME COUNT",
    "extend": "train trials for more epochs: NAME --epochs COUNT --trials best:N|ID …",
    "train": "one training: [key=value …] [resume=PATH]",
    "export": "a trial as a compressor that others can use: NAME --k K --to DIR",
    "compress": "pictures → compressed tokens and error maps: PICTURE… --checkpoint DIR [--output DIR]",
    "report": "write a sweep's report and recommended compressors anew: NAME",
    "samples": "fetch the default photographs that no Python package ships",
    "verify": "read all tokens of stores, and tell which are not what was written: [STORE …]",
    "ablation": "whether the critic helped in a sweep: NAME",
    "sync": "deliver to MLflow what it missed of a sweep: NAME",
}
PRINT_A_PAGE = {"ablation", "status", "ls"}  # whose output is Markdown, JSON or short: no line of ours before it
USAGE = (
    "usage: toconv COMMAND …\n\n"
    + "\n".join(f"  {name:<10} {does}" for name, does in COMMANDS.items())
    + ("\n\ntoconv COMMAND --help says more.")
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of `toconv ARGUMENTS`, those of the process if none are given."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help"}:
        print(USAGE)
        return ExitCode.DONE if words else ExitCode.REQUEST
    name, *rest = words
    if name not in COMMANDS:
        print(f"error: {name}: no such command\n{USAGE}", file=sys.stderr)
        return ExitCode.REQUEST
    says = "" if name in PRINT_A_PAGE or {"-h", "--help"} & set(rest) else name
    return run_command(lambda: import_module(f"toconv.commands.{name}"), rest, says)


if __name__ == "__main__":
    sys.exit(main())
