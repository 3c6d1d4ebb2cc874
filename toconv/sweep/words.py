"""The words of `toconv sweep`: which is an option, which the sweep file, which a setting."""

import os
from pathlib import Path

from toconv.command_line import path_of
from toconv.errors import RequestError

OPTIONS = ("--dry-run", "--debug")


def understood(arguments: list[str]) -> tuple[set[str], Path, list[str]]:
    """Options, the sweep file and overrides. A word that begins with a hyphen is no option where it names a sweep file
    (`-lead.yaml`) or stands behind `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = {a for a in arguments[:end] if a.startswith("-") and (a in OPTIONS or not _is_sweep_file(a))}
    words = [a for a in arguments[:end] if a not in flags] + arguments[end + 1 :]
    unknown = [f"{flag}: no such option; {' and '.join(OPTIONS)} are there" for flag in sorted(flags - set(OPTIONS))]
    if not words or ("=" in words[0] and not _is_sweep_file(words[0])):
        unknown.append("the first argument must be a sweep file, e.g. sweeps/grid_sizes.yaml")
    if unknown or len(flags) > 1:
        raise RequestError(*unknown or [f"{' and '.join(OPTIONS)} exclude each other"])
    return flags, path_of(words[0]), [word.removeprefix("trial.") for word in words[1:]]


def _is_sweep_file(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or os.path.isfile(word)
