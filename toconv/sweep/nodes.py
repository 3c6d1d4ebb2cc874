"""The machines of a Ray cluster of several: the same versions on each, and the same folders."""

import platform
import secrets
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from toconv.errors import MachineryError, disk
from toconv.sweep.cluster import alive_nodes, on_each_node
from toconv.training.identity import training_code

COMPARED = ("torch", "ray", "numpy")  # libraries that trials or Ray's messages depend on
VISIBLE_SECONDS = 15.0  # in which a file must be seen elsewhere: network disks remember for so long what is not there


class Machine(NamedTuple):
    versions: dict[str, str]
    unseen: list[str]  # folders


def check_nodes(folders: Sequence[Path]) -> None:
    """Raises MachineryError that names each machine with other versions than this one's, or that does not see one of
    the `folders`, which are there: a file is put into each, and looked for from everywhere."""
    if len(alive_nodes()) < 2:
        return
    name, here = f".{secrets.token_hex(8)}.probe", versions()
    probes = [folder.resolve() / name for folder in folders]
    try:
        for probe in probes:
            with disk(f"{probe.parent}: cannot be written"):
                probe.touch()
        found = on_each_node(look, [probes])
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)
    if wrong := [line for machine, seen in found.items() for line in mistakes(machine, seen, here)]:
        raise MachineryError("; ".join(wrong))


def look(probes: Iterable[Path]) -> Machine:
    """Of the machine that this runs on."""
    end, left = time.monotonic() + VISIBLE_SECONDS, list(probes)
    while left and time.monotonic() < end:
        left = [probe for probe in left if not probe.is_file()]
        if left:
            time.sleep(0.2)
    return Machine(versions(), [str(probe.parent) for probe in left])


def versions() -> dict[str, str]:
    of_python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": of_python, **{name: version(name) for name in COMPARED}, "toconv's code": training_code()}


def mistakes(machine: str, seen: Machine, here: dict[str, str]) -> Iterable[str]:
    for name, ours in here.items():
        if (theirs := seen.versions.get(name)) != ours:
            yield f"{machine} has {name} {theirs}, this machine {ours}: all must have the same"
    for folder in seen.unseen:
        yield f"{machine} does not see {folder}: outputs and tokens must lie on a disk that all machines share"
