"""What shells make of a command that toconv prints."""

import re
import shlex
import shutil
import subprocess

QUOTED = re.compile(r"'[^']*'|\"'\"")  # what shlex.quote writes; no shell looks into it
HARMLESS = re.compile(r"[\w@%+=:,./ -]*", re.ASCII)  # to bash and zsh, but for a leading `=` in zsh


def pasted(command):
    """The words that bash and, where it is there, zsh split a command into. Fails where zsh would see more in it."""
    bare = QUOTED.sub("q", command)
    assert HARMLESS.fullmatch(bare) and not re.search(r"(^| )=", bare), command
    (words,) = {_words(shell, command) for shell in ("bash", "zsh") if shutil.which(shell)}
    assert list(words) == shlex.split(command)
    return list(words)


def _words(shell, command):
    done = subprocess.run([shell, "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    return tuple(done.stdout.split("\0")[:-1])
