"""The machines of a Ray cluster that is joined: the same versions, folders and object store for each."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from toconv.errors import MachineryError, RequestError, disk
from toconv.object_store import ObjectStore
from toconv.progress import say
from toconv.sweep.cluster import alive_nodes, on_each_node
from toconv.sweep.ray_address import joined
from toconv.sweep.versions import differing, versions

if TYPE_CHECKING:  # workers import this module too
    from toconv.settings import EncoderSettings, StoreSettings
    from toconv.sweep.file import Sweep

VISIBLE_SECONDS = 15.0  # in which a file must be seen elsewhere: network disks remember for so long what is not there
APART_SECONDS = 2.0  # the same, where a machine that does not see it does without


class Machine(NamedTuple):
    versions: dict[str, str]
    unseen: list[str]  # folders
    lacking: tuple[str, ...] = ()  # files of the encoder's
    without_store: str | None = None  # why the object store cannot be used, where one is asked for
    without_copies: str | None = None  # why copies of tokens cannot be written, where they are asked for


def check_nodes(asked: Sweep, folders: Sequence[Path]) -> bool:
    """Whether each machine sees the `folders`, which are there: a file is put into each, and looked for from
    everywhere. Raises MachineryError that names each machine with other versions than this one's, or that does not
    see one of them, or cannot write the copies of tokens that are asked for. With an object store a machine need not
    see the folders, but must reach that, by the environment in which Ray was started there."""
    if joined() is None and len(alive_nodes()) < 2:
        return True
    store = asked.base.store.url
    name, here = f".{secrets.token_hex(8)}.probe", versions()
    probes = [folder.resolve() / name for folder in folders]
    try:
        for probe in probes:
            with disk(f"{probe.parent}: cannot be written"):
                probe.touch()
        found = on_each_node(look, [probes, store, _files(asked.base.encoder), asked.base.store])
    finally:
        for probe in probes:
            probe.unlink(missing_ok=True)
    if wrong := [line for machine, seen in found.items() for line in mistakes(machine, seen, here, store)]:
        raise MachineryError("; ".join(wrong))
    if apart := [machine for machine, seen in found.items() if seen.unseen]:
        _say_once(f"{', '.join(apart)}: without this machine's folders; tokens and trials go by way of {store}")
    return not apart


def _files(encoder: EncoderSettings) -> list[Path]:
    """Those that a request names, which each machine must have where they are here."""
    named = (Path(encoder.weights), Path(encoder.architecture))
    return [path.resolve() for path in named if path.is_file()]


@cache
def _say_once(line: str) -> None:
    say(line)


def look(
    probes: Iterable[Path], store: str | None = None, files: Iterable[Path] = (), copies: StoreSettings | None = None
) -> Machine:
    """Of the machine that this runs on."""
    end, left = time.monotonic() + (APART_SECONDS if store else VISIBLE_SECONDS), list(probes)
    while left and time.monotonic() < end:
        left = [probe for probe in left if not probe.is_file()]
        if left:
            time.sleep(0.2)
    lacking = tuple(str(path) for path in files if not path.is_file())
    without_store = _without(store) if store else None
    without_copies = _without_copies(copies) if copies and copies.local_cache_gb else None
    return Machine(versions(), [str(probe.parent) for probe in left], lacking, without_store, without_copies)


def _without_copies(settings: StoreSettings) -> str | None:
    from toconv.tokens.local_cache import unusable  # start-up: the libraries of an encoding

    return unusable(settings)


def _without(store: str) -> str | None:
    try:
        ObjectStore(store).check()
    except (MachineryError, RequestError) as error:
        return str(error)
    return None


def mistakes(machine: str, seen: Machine, here: dict[str, str], store: str | None = None) -> Iterable[str]:
    yield from differing(machine, seen.versions, here)
    for folder in [] if store else seen.unseen:
        yield (
            f"{machine} does not see {folder}: outputs and tokens must lie on a disk that all machines share, or "
            "store.url= must name an object store"
        )
    for path in seen.lacking:
        yield f"{machine} does not see {path}: files of encoder= must lie under the same path on each machine"
    if seen.without_copies:
        yield f"{machine}: {seen.without_copies}"
    if seen.without_store:
        unseen = f" does not see {', '.join(seen.unseen)}, and" if seen.unseen else ""
        yield (
            f"{machine}{unseen} cannot use the object store: {seen.without_store}; it is reached from there with the "
            "environment of that machine's `ray start`"
        )
