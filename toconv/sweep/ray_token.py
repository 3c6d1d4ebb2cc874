"""The token that a Ray cluster is shown: where it is found, and whether the cluster to join takes it. Needs no Ray."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from toconv.errors import RequestError
from toconv.machine import words_of
from toconv.paths import others_can_read
from toconv.sweep.ray_address import (
    CLIENT,
    OF_CLIENT,
    OF_GCS,
    REFUSED,
    host_and_port,
    how_to_leave,
    joined,
    said,
    status_of,
)

AUTHENTICATION, TOKENS = "RAY_AUTH_MODE", ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # Ray's own, in the environment
TOKEN_FILE = Path("~/.ray/auth_token")
SHOWN = "token"  # the value of RAY_AUTH_MODE, in small letters or large, by which Ray shows one
LONGEST = 2**13  # bytes that are read of a file with one
PLACES = f"{TOKENS[0]}, {TOKENS[1]} or {TOKEN_FILE}"
RAYLET, GCS_OPTION = "raylet", "--gcs-address="  # a process of each machine of a cluster, which is called with that


class _Token(NamedTuple):
    """Found as Ray finds it: the first place that is named holds it or none does."""

    place: str
    value: bytes
    lacking: str | None = None  # why there is none


def _token() -> _Token:
    if given := os.environ.get(TOKENS[0]):
        value, place = os.fsencode(given).strip(), TOKENS[0]
        return _Token(place, value, None if value else "is empty")
    named = os.environ.get(TOKENS[1])  # which may hold a token by mistake, and is not told
    place = TOKENS[1] if named else str(TOKEN_FILE)
    try:
        with (Path(named) if named else TOKEN_FILE.expanduser()).open("rb") as file:
            value = file.read(LONGEST).strip()
    except OSError as error:
        return _Token(place, b"", str(error.strerror))
    return _Token(place, value, None if value else "is empty")


def _is_named() -> bool:
    """Whether the environment says where a token is, be it there or not."""
    return any(os.environ.get(name) for name in TOKENS)


def _is_shown() -> bool:
    """Whether Ray shows the token: where it is told to, and by `show_token` where this user has one."""
    mode = os.environ.get(AUTHENTICATION)
    return _is_named() or not _token().lacking if mode is None else mode.lower() == SHOWN


def show_token() -> None:
    """Have Ray, before it is imported, show its token to the cluster to join where this user has one: `ray start` then
    asks for it, `ray.init(address)` does not show it, and a cluster that asks for none takes it too. A cluster of our
    own asks for one by itself."""
    if joined() and _is_shown():
        os.environ.setdefault(AUTHENTICATION, SHOWN)


def check_token() -> None:
    """Raises RequestError where Ray has no token that it is to show, and where the cluster to join refuses the one that
    it is shown, or asks for one and is shown none. A token is sent to who asks for one alone."""
    address, token, shown = joined(), _token(), _is_shown()
    if shown and token.lacking and (address or _is_named()):  # else a cluster of our own has one made for it
        raise RequestError(
            f"Ray has no token to show ({token.place}: {token.lacking}); put one into {PLACES}, or set "
            f"{AUTHENTICATION}=disabled where the cluster asks for none"
        )
    servers = _servers(address) if address else []
    refusing = [there for there in servers if _refuses(there, token.value if shown else None)]
    if not address or not refusing or len(refusing) < len(servers):
        return
    told = f"show the one that it was started with by {PLACES}; {how_to_leave(address)}"
    if shown:
        raise RequestError(f"the Ray cluster at {refusing[0]} refuses the token of {token.place}; {told}")
    mode = os.environ.get(AUTHENTICATION)
    why = f"{token.place}: {token.lacking}" if mode is None else f"{AUTHENTICATION}={mode}"
    raise RequestError(f"the Ray cluster at {refusing[0]} asks for a token, and is shown none ({why}); {told}")


def _servers(address: str) -> list[str]:
    """The address; of `auto` those of all clusters that run here, of which Ray chooses one."""
    if address != "auto":
        return [address]
    options = (word.partition(GCS_OPTION) for word in " ".join(itertools.chain(*words_of(RAYLET))).split())
    return sorted({there for _, option, there in options if option})


def _refuses(address: str, token: bytes | None) -> bool:
    """Whether it answers none who shows no token, nor who shows this one."""
    (host, port), call = host_and_port(address), OF_CLIENT if address.startswith(CLIENT) else OF_GCS
    asks = status_of(host, port, call) == REFUSED
    return asks and (token is None or status_of(host, port, call, token) == REFUSED)


def open_doors(listen: bool) -> Iterator[str]:
    """What lets others run code as this user by Ray, a line each."""
    address, mode = joined(), os.environ.get(AUTHENTICATION)
    if address and not _is_shown():
        yield f"{said(address)}: joined without a token: whoever reaches that cluster runs code as its user"
    elif mode is not None and mode.lower() != SHOWN:
        yield f"{AUTHENTICATION}={mode}: whoever reaches this sweep's Ray cluster runs code as its user"
    file = Path(os.environ.get(TOKENS[1]) or TOKEN_FILE).expanduser()
    if others_can_read(file):
        yield f"{file}: others can read this token and run code as you by it; run chmod 600 {file}"
    if listen and address is None:
        yield "cluster.listen=true: this sweep's Ray cluster listens on all addresses of this machine"
