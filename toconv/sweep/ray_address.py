"""Which Ray cluster a sweep joins: its address, and whether it answers there. Needs no Ray."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from toconv.errors import MachineryError, RequestError
from toconv.machine import runs
from toconv.redaction import HIDDEN

GCS = "gcs_server"  # the process that a cluster of Ray's has on its first machine
ADDRESS = "RAY_ADDRESS"  # of a cluster to join; Ray's own, in the environment
SETTING = "cluster.address"  # and of a sweep's, which beats it
CLIENT = "ray://"  # before the address at which Ray's client reaches a cluster
LOOPBACK = {"127.0.0.1", "localhost", "[::1]", "::1"}
OWN_CLUSTER = {"", "local"}  # values of it that ask for one of our own
LISTENING = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray's processes take the loopback address for the machine's own
PROBE_SECONDS = 2.0
# the preface of HTTP/2 and no settings, which a gRPC server, as Ray's is, answers with its own (RFC 9113, 3.4)
HELLO, SETTINGS_FRAME = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), 4
DOORS = "a cluster's GCS is at HOST:PORT, as a rule 6379, and Ray's client at ray://HOST:PORT, as a rule 10001"
OF_GCS, OF_CLIENT = "ray.rpc.NodeInfoGcsService/CheckAlive", "ray.rpc.RayletDriver/ClusterInfo"  # calls of gRPC
STATUS = b"\x0bgrpc-status"  # of gRPC's answer, after its length
NO_SUCH_CALL, REFUSED = b"12", b"16"  # values of it: UNIMPLEMENTED, UNAUTHENTICATED
MOST_OF_A_BYTE = 127  # of the length of a text in a header (RFC 7541, 5.1)

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


def said(address: str) -> str:
    return f"{_named_by[-1]}={_shown(address)}"


def _shown(address: str) -> str:
    """Without what stands before an @, which is a password where somebody took it for another kind of address."""
    _, found, host = address.rpartition("@")
    return f"{HIDDEN}@{host}" if found else address


def by_client() -> str | None:
    """The address of a cluster that is reached by Ray's client, on whose first machine the driver runs."""
    address = joined()
    return address if address and address.startswith(CLIENT) else None


def keep_to_loopback(listen: bool = False) -> None:
    """Have Ray, before it is imported, listen at the loopback address alone in a cluster of our own, unless asked to
    `listen` at all; a cluster to join at the loopback address may be such a one."""
    address = joined()
    if listen and address is None:
        os.environ[LISTENING] = "1"
    elif address is None or address.rpartition(":")[0] in LOOPBACK:
        os.environ.setdefault(LISTENING, "0")


def how_to_leave(address: str) -> str:
    own = f"unset {ADDRESS}" if _named_by[-1] == ADDRESS else f"{SETTING}=local"
    return f"{said(address)} names it; to have a cluster of this sweep's own: {own}"


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
    if status_of(host, port, OF_GCS if by_client else OF_CLIENT) not in (None, NO_SUCH_CALL):
        there, form = ("GCS", "HOST:PORT") if by_client else ("client", "ray://HOST:PORT")
        raise RequestError(
            f"{said(address)}: Ray's {there} answers there, whose address reads {form}: write "
            f"{address.removeprefix(CLIENT) if by_client else CLIENT + address}; {DOORS}"
        )


def status_of(host: str, port: int, call: str, token: bytes | None = None) -> bytes | None:
    """The status with which the server there answers such a call of gRPC that asks for nothing; None where there is no
    answer."""
    headers = {b":method": b"POST", b":scheme": b"http", b":path": b"/" + call.encode(), b":authority": b"toconv"}
    headers |= {b"content-type": b"application/grpc", b"te": b"trailers"}
    headers |= {} if token is None else {b"authorization": b"Bearer " + token}
    # each as a literal that no table has (RFC 7541, 6.2.2)
    content = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    found = b""
    with suppress(OSError), socket.create_connection((host, port), PROBE_SECONDS) as probe:
        probe.sendall(HELLO + _frame(1, 4, content) + _frame(0, 1, bytes(5)))  # the headers; an empty message, the last
        while more := probe.recv(2**12):
            found += more
            _, _, status = found.partition(STATUS)
            if status and len(status) > status[0]:
                return status[1 : 1 + status[0]]
    return None


def _text(content: bytes) -> bytes:
    """In a header, after its length."""
    if len(content) < MOST_OF_A_BYTE:
        return bytes((len(content),)) + content
    length, left = [MOST_OF_A_BYTE], len(content) - MOST_OF_A_BYTE
    while left > MOST_OF_A_BYTE:
        length.append(left % 128 + 128)
        left //= 128
    return bytes((*length, left)) + content


def _frame(kind: int, flags: int, content: bytes) -> bytes:
    """Of HTTP/2, on a connection's first stream."""
    return len(content).to_bytes(3) + bytes((kind, flags, 0, 0, 0, 1)) + content


def _why_no_answer(host: str, port: int) -> str | None:
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as probe:
            probe.sendall(HELLO)
            answer = probe.recv(9)
    except OSError as error:
        return str(error)
    return None if answer[3:4] == bytes((SETTINGS_FRAME,)) else "whoever listens there is no Ray"
