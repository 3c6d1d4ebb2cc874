"""What driver and workers must have the same of."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from toconv.training.identity import training_code

COMPARED = ("torch", "ray", "numpy")  # libraries that trials or Ray's messages depend on


def versions() -> dict[str, str]:
    """Of this process."""
    of_python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": of_python, **{name: version(name) for name in COMPARED}, "toconv's code": training_code()}


def differing(machine: str, theirs: Mapping[str, str], here: Mapping[str, str]) -> Iterator[str]:
    """A line for each version that is another one on that machine than in the driver, with both."""
    for name, ours in here.items():
        if theirs.get(name) != ours:
            yield f"{machine} has {name} {theirs.get(name)}, this machine {ours}: all must have the same"
