"""What a sweep needs of its machine and of its folder, looked at before any work: the same for a start and for
`--dry-run`. Starts nothing, leaves nothing behind, needs neither Ray nor torch."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from toconv.errors import MachineryError, RequestError
from toconv.paths import SweepPaths, free_bytes, unwritable
from toconv.redaction import redact
from toconv.sweep.own_measure import OwnMeasure, search_path
from toconv.sweep.ray_address import check_door, joined, keep_to_loopback
from toconv.sweep.ray_token import check_token, open_doors
from toconv.sweep.search.ledger_place import Database, recorded_place
from toconv.tracking_address import database_file, store_in_use

if TYPE_CHECKING:  # a worker imports this module too, and needs no request
    from toconv.sweep.file import Sweep

TEMPORARY = ("RAY_TMPDIR", "TMPDIR")  # where Ray puts its folder, the first of them that is set
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
LONGEST_SOCKET = 107  # bytes of an AF_UNIX path, unix(7)
SESSION_PREFIX = "ray_"  # of the private folder of a session, which eight random characters end
SOCKET_BELOW = len(f"/{SESSION_PREFIX}12345678/s/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99")
SHARED, SHARED_BYTES = Path("/dev/shm"), 100 * 2**20  # Ray's object store: tokens are read by memory map instead
SESSION_BYTES = 50 * 2**20  # logs and sockets of a session of Ray's
OPEN_FILES = 256  # Ray starts two workers with 128 (tried); a driver with MLflow and more workers take more
PORTS = 32  # that Ray and its first workers listen on


def check_folders(sweep: Sweep, paths: SweepPaths) -> None:
    """Raises RequestError where a folder cannot be written."""
    mistakes = [*_folders(sweep, paths)]
    if mistakes:
        raise RequestError(*mistakes)


def check_ledger(sweep: Sweep, paths: SweepPaths) -> str:
    """Where the ledger lies. Raises RequestError where it cannot lie there, MachineryError where a sweep that has begun
    does not reach it."""
    address, place = sweep.file.storage.study, recorded_place(paths)
    if address is None:
        return f"ledger: {paths.study}"
    from toconv.sweep.search.postgresql import check_apart, check_database  # start-up: SQLAlchemy

    check_database(address, Database(address, place.name) if isinstance(place, Database) else None)
    tracking = store_in_use(sweep.base.experiment.tracking_uri)
    if tracking.address.lower().startswith("postgresql"):
        check_apart(address, tracking)
    return f"ledger: {redact(address)} (storage.study)"


def check_ray() -> None:
    """Raises MachineryError that names all that a Ray cluster of our own lacks on this machine, or where the address of
    another one is none; RequestError where it is of a cluster's other server, and as `check_token`."""
    address = joined()
    if address is not None and address != "auto":
        check_door(address)
    check_token()
    lacking = [*_lacking()] if address is None else []
    if lacking:
        raise MachineryError("; ".join(lacking))


def check_evaluation(asked: OwnMeasure | None) -> None:
    """Raises RequestError where the user's own evaluation could not even begin. Imports nothing of it."""
    if asked is None:
        return
    lacking = _lacking_function(asked.function) if asked.function else _lacking_program(asked)
    if lacking:
        raise RequestError(f"evaluation.{'function' if asked.function else 'command'}={asked.asked}: {lacking}")


def _lacking_program(asked: OwnMeasure) -> str | None:
    program, *words = asked.words(Path("export"), Path("output"))
    if shutil.which(program, path=search_path()) is None:
        return f"no program {program} is found beside {sys.executable}, nor in PATH"
    script = words[0] if words and Path(program).name.startswith("python") else ""
    if script.endswith(".py") and not Path(script).is_file():
        return f"{script} is no file in {Path.cwd()}"
    return None


def _lacking_function(function: str) -> str | None:
    """Found as Python would find it from the working directory, folder by folder, without running any of it."""
    module, _, name = function.partition(":")
    found, places = None, [str(Path.cwd()), *sys.path]
    for count, _ in enumerate(parts := module.split("."), 1):
        found = PathFinder.find_spec(".".join(parts[:count]), places)
        if found is None:
            return f"no module {'.'.join(parts[:count])} is found in {Path.cwd()}, nor where Python looks"
        places = list(found.submodule_search_locations or [])
    source = Path(found.origin) if found and found.origin and found.origin.endswith(".py") else None
    text = source.read_text(errors="replace") if source else name
    return None if name in text or "import *" in text else f"{source} has no {name}"


def _folders(sweep: Sweep, paths: SweepPaths) -> Iterator[str]:
    store = store_in_use(sweep.base.experiment.tracking_uri)
    file = database_file(store.address)
    wanted = {
        "the sweep's folder": paths.root,
        f"data.tokens_dir={sweep.base.data.tokens_dir}": sweep.base.data.tokens_dir,
        **({f"MLflow's store ({store.said_by})": file.parent} if file else {}),
    }
    for what, folder in wanted.items():
        reason = unwritable(folder)
        if reason:
            yield f"{what}: {folder.absolute()} cannot be written ({reason})"
    if sweep.base.store.local_cache_gb:
        from toconv.tokens.local_cache import unusable  # start-up: the libraries of an encoding

        yield from filter(None, [unusable(sweep.base.store)])
    tokens = sweep.base.data.tokens_dir
    if paths.root.resolve() == tokens.resolve():
        yield f"name={sweep.file.name}: its folder would be that of the tokens, data.tokens_dir={tokens}"
    for path in (paths.report, paths.results):
        if path.is_dir():
            yield f"{path}: is a folder, and the sweep writes a file there; move it away"
    for path in (paths.figures, paths.recommended):
        if path.exists() and not path.is_dir():
            yield f"{path}: is a file, and the sweep writes a folder there; move it away"


def _lacking() -> Iterator[str]:
    """What a Ray cluster of our own lacks here, each with what to do."""
    try:
        temporary = ray_folder()
    except MachineryError as error:
        yield str(error)
        return
    if free_bytes(temporary) < SESSION_BYTES:
        yield f"{temporary}: Ray's session takes {SESSION_BYTES / 2**20:.0f} MB; free some, or set RAY_TMPDIR"
    if not SHARED.is_dir():
        yield f"{SHARED}: is not there, and Ray shares memory by it; mount a tmpfs there"
    elif free_bytes(SHARED) < SHARED_BYTES > free_bytes(temporary) - SESSION_BYTES:
        yield f"{SHARED} and {temporary}: {SHARED_BYTES / 2**20:.0f} MB must be free in one of them for Ray's memory"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < OPEN_FILES:
        yield f"a process may open {most} files here, Ray needs {OPEN_FILES}; run ulimit -n {OPEN_FILES}"
    reason = _no_ports()
    if reason:
        yield f"{PORTS} ports cannot be listened on, which Ray needs ({reason})"


def _no_ports() -> str | None:
    try:
        with ExitStack() as opened:
            for _ in range(PORTS):
                opened.enter_context(socket.socket()).bind(("", 0))
    except OSError as error:
        return str(error.strerror)
    return None


def ray_folder() -> Path:
    """The folder below which Ray's session goes: what the environment names, or a short one where that is too long for
    the path of a socket, or cannot be written. Raises MachineryError where there is none."""
    named = [os.environ[name] for name in TEMPORARY if os.environ.get(name)][:1]
    for folder in map(Path, (*named, *SHORT_FOLDERS)):
        short = len(os.fsencode(folder.absolute())) + SOCKET_BELOW <= LONGEST_SOCKET
        if short and folder.is_dir() and unwritable(folder) is None:
            return folder
    raise MachineryError(
        f"no folder for Ray's sockets: {', '.join([*named, *SHORT_FOLDERS])} cannot be written or are longer than "
        f"{LONGEST_SOCKET - SOCKET_BELOW} bytes; set RAY_TMPDIR to a short folder"
    )


def moved() -> str | None:
    """Where Ray's session goes, where that is not the folder that the environment names."""
    named = next((os.environ[name] for name in TEMPORARY if os.environ.get(name)), None)
    folder = ray_folder() if joined() is None else None
    if folder is None or named is None or Path(named) == folder:
        return None
    return f"Ray's session goes to {folder}: {named} is too long for the path of a socket, or cannot be written"


def before_ray(listen: bool) -> list[str]:
    """Choose where Ray, still to be imported, listens. Returns what is to be said of its session and of who gets in."""
    keep_to_loopback(listen)
    return [line for line in (moved(), *open_doors(listen)) if line]
