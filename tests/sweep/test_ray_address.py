"""Which Ray cluster a sweep joins, and what it says of one that is not there."""

import os
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from toconv.errors import MachineryError, RequestError
from toconv.sweep import ray_address, ray_token
from toconv.sweep.preflight import before_ray, check_ray
from toconv.sweep.ray_address import LISTENING, check_cluster, joined, name_cluster

pytestmark = pytest.mark.usefixtures("no_environment")


@contextmanager
def answering(content):
    """A port where each who connects is sent `content`."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with suppress(OSError):
                while True:
                    with server.accept()[0] as peer:
                        peer.recv(100)
                        peer.sendall(content)
                        with suppress(ConnectionError):
                            peer.recv(100)

        if content is not None:
            threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize("content", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_without_ray_behind_it_is_told_by_a_dry_run(content, monkeypatch):
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 0.3)
    with answering(content) as port:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(MachineryError, match=f"RAY_ADDRESS=127.0.0.1:{port} names it; .*unset RAY_ADDRESS"):
            check_cluster()


def test_a_server_that_speaks_as_rays_passes(monkeypatch):
    with answering(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))) as port:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        check_cluster()


def test_auto_needs_a_cluster_on_this_machine(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(ray_address, "GCS", "no-such-process")
    monkeypatch.setattr(ray_token, "RAYLET", "no-such-process")
    check_ray()
    with pytest.raises(MachineryError, match="none runs on this machine"):
        check_cluster()


@pytest.mark.parametrize("address", ["ray://host", "foo", "host:", ":6379", "host:99999", "http://host:6379"])
def test_what_is_no_address_of_a_cluster_is_told_before_work(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(MachineryError, match="is no HOST:PORT of a Ray cluster; RAY_ADDRESS="):
        check_ray()


@pytest.mark.parametrize(
    "address", ["u:plantedpw@127.0.0.1:6379", "plantedpw@host:6379", "ray://u:plantedpw@host:1", "p@plantedpw@h:1x"]
)
def test_what_stands_before_an_at_sign_is_a_password_and_is_not_told(address, asked, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(MachineryError, match=r"RAY_ADDRESS=\*\*\*@h?") as told:
        check_ray()
    assert "is no HOST:PORT of a Ray cluster" in str(told.value) and "plantedpw" not in str(told.value)
    with pytest.raises(RequestError, match="cluster.address: holds .* has no user and no password") as told:
        asked(f"cluster.address={address}")
    assert "plantedpw" not in str(told.value)


def test_a_server_that_knows_no_such_call_is_not_the_other_one(monkeypatch):
    for content in (b"\x0bgrpc-status\x0212", b"", b"\x0bgrpc-status", b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        with answering(content) as port:
            monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
            check_ray()
    with answering(b"\x0bgrpc-status\x010") as port:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(RequestError, match=f"Ray's client answers there.*: write ray://127.0.0.1:{port}; "):
            check_ray()


@pytest.mark.parametrize("address", ["", "local"])
def test_some_addresses_ask_for_a_cluster_of_ones_own(address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert joined() is None
    check_cluster()


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", LISTENING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, []),
        ({"RAY_ADDRESS": "host:6379"}, ["joined without a token: whoever reaches that cluster"]),
        ({"RAY_ADDRESS": "host:6379", "RAY_AUTH_TOKEN": "x"}, []),
        ({"RAY_AUTH_MODE": "disabled"}, ["RAY_AUTH_MODE=disabled: whoever reaches this sweep's Ray cluster"]),
    ],
)
def test_who_gets_into_ray_without_a_token_is_told_in_one_line(no_token, monkeypatch, environment, said):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = before_ray(False)
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found, strict=True))


def test_a_token_that_others_can_read_is_told_with_what_to_do(no_token, tmp_path):
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("token")
    file.chmod(0o644)
    assert before_ray(False) == [f"{file}: others can read this token and run code as you by it; run chmod 600 {file}"]
    file.chmod(0o600)
    assert before_ray(False) == []


@pytest.mark.parametrize(
    ("address", "listen", "listening"),
    [("", False, "0"), ("", True, "1"), ("127.0.0.1:6379", False, "0"), ("host:6379", False, None)],
)
def test_a_cluster_of_ones_own_listens_at_the_loopback_address_unless_asked(
    no_token, monkeypatch, address, listen, listening
):
    monkeypatch.setenv("RAY_ADDRESS", address)
    said = before_ray(listen)
    assert os.environ.get(LISTENING) == listening and any("all addresses" in line for line in said) == listen
    monkeypatch.delenv(LISTENING, raising=False)


def test_the_cluster_that_a_sweep_names_is_joined_whatever_the_environment_names(asked, monkeypatch):
    monkeypatch.setattr(ray_address, "_named_by", [ray_address.ADDRESS])
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    name_cluster(asked().file.cluster.address)
    assert joined() == "elsewhere:6379"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        name_cluster(asked(f"cluster.address={address}").file.cluster.address)
        with pytest.raises(MachineryError, match=f"cluster.address={address} names it; .*: cluster.address=local$"):
            check_cluster()
    name_cluster(asked("cluster.address=local").file.cluster.address)
    assert joined() is None


@pytest.mark.parametrize("address", ["host", "host:0", "host:70000", ":6379", "ray://host", "grpc://host:10001", ""])
def test_what_is_no_address_of_a_cluster_is_a_wrong_request(asked, address):
    with pytest.raises(RequestError, match=r"cluster.address.*must be HOST:PORT of a cluster's first machine"):
        asked(f"cluster.address={address}")
