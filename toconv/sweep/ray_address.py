"""Which Ray cluster a sweep joins: its address, whether it answers, and the token that it is shown. Needs no Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from toconv.errors import MachineryError, RequestError
from toconv.machine import runs
from toconv.paths import others_can_read
from toconv.redaction import HIDDEN

GCS = "gcs_server"  # the process that a cluster of Ray's has on its first machine
ADDRESS = "RAY_ADDRESS"  # of a cluster to join; Ray's own, in the environment
SETTING = "cluster.address"  # and of a sweep's, which beats it
CLIENT = "ray://"  # before the address at which Ray's client reaches a cluster
LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "::1"}
OWN_CLUSTER = {"", "local"}  # values of it that ask for one of our own
AUTHENTICATION, TOKENS = "RAY_AUTH_MODE", ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # Ray's own too
TOKEN_FILE = Path("~/.ray/auth_token")
LISTENING = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray's processes take the loopback address for the machine's own
PROBE_SECONDS = 2.0
# the preface of HTTP/2 and no settings, which a gRPC server, as Ray's is, answers with its own (RFC 9113, 3.4)
HELLO, SETTINGS_FRAME = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), 4
DOORS = "a cluster's GCS is at HOST:PORT, as a rule 6379, and Ray's client at ray://HOST:PORT, as a rule 10001"
OF_GCS, OF_CLIENT = "ray.rpc.NodeInfoGcsService/CheckAlive", "ray.rpc.RayletDriver/ClusterInfo"  # calls of gRPC
STATUS, NO_SUCH_CALL = b"\x0bgrpc-status", b"\x0212"  # of gRPC's answer, each after its length

_named_by = [ADDRESS]  # the last is what says which


def joined() -> str | None:
    """The address of the Ray cluster that the sweep or the environment names; None where a sweep starts one of its
    own."""
    address = os.environ.get(ADDRESS, "")
    return None if address in OWN_CLUSTER else address


def name_cluster(address: str | None) -> None:
    """Have the cluster that a sweep names be the one to join, whatever the environment names; None: that one."""
    if address is not None:
        os.environ[ADDRESS] = address
        _named_by.append(SETTING)


def _said(address: str) -> str:
    return f"{_named_by[-1]}={_shown(address)}"


def _shown(address: str) -> str:
    """Without what stands before an @, which is a password where somebody took it for another kind of address."""
    _, found, host = address.rpartition("@")
    return f"{HIDDEN}@{host}" if found else address


def by_client() -> str | None:
    """The address of a cluster that is reached by Ray's client, on whose first machine the driver runs."""
    address = joined()
    return address if address and address.startswith(CLIENT) else None


def show_token() -> None:
    """Have Ray, before it is imported, show its token to the cluster to join where this user has one: `ray start` then
    asks for it, `ray.init(address)` does not show it, and a cluster that asks for none takes it too. A cluster of our
    own asks for one by itself."""
    if joined() and _has_token():
        os.environ.setdefault(AUTHENTICATION, "token")


def _has_token() -> bool:
    return any(os.environ.get(name) for name in TOKENS) or TOKEN_FILE.expanduser().is_file()


def keep_to_loopback(listen: bool = False) -> None:
    """Have Ray, before it is imported, listen at the loopback address alone in a cluster of our own, unless asked to
    `listen` at all; a cluster to join at the loopback address may be such a one."""
    address = joined()
    if listen and address is None:
        os.environ[LISTENING] = "1"
    elif address is None or address.rpartition(":")[0] in LOOPBACK:
        os.environ.setdefault(LISTENING, "0")


def open_doors(listen: bool) -> Iterator[str]:
    """What lets others run code as this user by Ray, a line each."""
    address, mode = joined(), os.environ.get(AUTHENTICATION)
    if address and not _has_token():
        yield f"{_said(address)}: joined without a token: whoever reaches that cluster runs code as its user"
    elif mode not in (None, "token"):
        yield f"{AUTHENTICATION}={mode}: whoever reaches this sweep's Ray cluster runs code as its user"
    file = Path(os.environ.get(TOKENS[1]) or TOKEN_FILE).expanduser()
    if others_can_read(file):
        yield f"{file}: others can read this token and run code as you by it; run chmod 600 {file}"
    if listen and address is None:
        yield "cluster.listen=true: this sweep's Ray cluster listens on all addresses of this machine"


def how_to_leave(address: str) -> str:
    own = f"unset {ADDRESS}" if _named_by[-1] == ADDRESS else f"{SETTING}=local"
    return f"{_said(address)} names it; to have a cluster of this sweep's own: {own}"


def no_cluster(address: str, why: str) -> MachineryError:
    """Of a cluster that does not answer there."""
    doors = "" if address == "auto" else f"{DOORS}; "
    return MachineryError(f"no Ray cluster answers ({why}); {doors}{how_to_leave(address)}")


def host_and_port(address: str) -> tuple[str, int]:
    """Raises MachineryError where it is no HOST:PORT, the only addresses at which a driver joins."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix(CLIENT)
    if "://" in host or "@" in host or not port.isdecimal() or not host or not 0 < int(port) < 2**16:
        raise MachineryError(f"{_shown(address)}: is no HOST:PORT of a Ray cluster; {how_to_leave(address)}")
    return host.strip("[]"), int(port)


def check_cluster() -> None:
    """Raises MachineryError at once where no cluster answers at the address of one to join; a start waits longer."""
    address = joined()
    if address is None:
        return
    why = _why_no_answer(*host_and_port(address)) if address != "auto" else None
    if address == "auto" and not runs(GCS):
        why = "none runs on this machine"
    if why:
        raise no_cluster(address, why)


def check_door(address: str) -> None:
    """Raises RequestError where the other one of a cluster's two servers answers, MachineryError as `host_and_port`."""
    (host, port), by_client = host_and_port(address), address.startswith(CLIENT)
    if _knows(host, port, OF_GCS if by_client else OF_CLIENT):
        there, form = ("GCS", "HOST:PORT") if by_client else ("client", "ray://HOST:PORT")
        raise RequestError(
            f"{_said(address)}: Ray's {there} answers there, whose address reads {form}: write "
            f"{address.removeprefix(CLIENT) if by_client else CLIENT + address}; {DOORS}"
        )


def _knows(host: str, port: int, call: str) -> bool:
    """Whether the server there has such a call of gRPC; False where none answers. Nothing is asked of it."""
    headers = {":method": "POST", ":scheme": "http", ":path": f"/{call}", ":authority": "toconv"}
    headers |= {"content-type": "application/grpc", "te": "trailers"}
    # each as a literal that no table has (RFC 7541, 6.2.2): its name and its value, each after its length
    content = b"".join(
        bytes((0, len(name), *name.encode(), len(value), *value.encode())) for name, value in headers.items()
    )
    answer = b""
    with suppress(OSError), socket.create_connection((host, port), PROBE_SECONDS) as probe:
        probe.sendall(HELLO + _frame(1, 4, content) + _frame(0, 1, bytes(5)))  # the headers; an empty message, the last
        while more := probe.recv(2**12):
            answer += more
            _, _, status = answer.partition(STATUS)
            if status and len(status) > status[0]:
                return not status.startswith(NO_SUCH_CALL)
    return False


def _frame(kind: int, flags: int, content: bytes) -> bytes:
    """Of HTTP/2, on a connection's first stream."""
    return bytes((0, 0, len(content), kind, flags, 0, 0, 0, 1)) + content


def _why_no_answer(host: str, port: int) -> str | None:
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as probe:
            probe.sendall(HELLO)
            answer = probe.recv(9)
    except OSError as error:
        return str(error)
    return None if answer[3:4] == bytes((SETTINGS_FRAME,)) else "whoever listens there is no Ray"
