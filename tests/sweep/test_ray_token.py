"""What is said of a token that the Ray cluster to join does not take, before any work."""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests import ray_cluster
from tests.repository import REPOSITORY
from tests.running import command, write_sweep
from toconv.errors import RequestError
from toconv.sweep import ray_token
from toconv.sweep.preflight import check_ray
from toconv.sweep.ray_token import AUTHENTICATION, TOKENS, check_token, open_doors

WRONG = "planted" * 9
PLACES = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


@pytest.fixture
def no_token(monkeypatch, tmp_path):
    for name in (*TOKENS, AUTHENTICATION):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def cluster(no_token, monkeypatch):
    """The token of one that asks for it, which is the one to join."""
    started = ray_cluster.environment()
    monkeypatch.setenv("RAY_ADDRESS", started["RAY_ADDRESS"])
    return started["RAY_AUTH_TOKEN"]


def written(folder, token):
    file = folder / ".ray" / "auth_token"
    file.parent.mkdir(exist_ok=True)
    file.write_text(token)
    return file


@pytest.mark.slow
@pytest.mark.parametrize("place", [*TOKENS, "~/.ray/auth_token"])
@pytest.mark.parametrize("mode", [None, "token", "TOKEN"])
def test_a_token_that_the_cluster_refuses_is_told_with_where_it_came_from(cluster, monkeypatch, tmp_path, place, mode):
    if mode:
        monkeypatch.setenv(AUTHENTICATION, mode)
    for token in (cluster, WRONG):
        given = written(tmp_path, f" {token}\n") if place != TOKENS[0] else token
        if place in TOKENS:
            monkeypatch.setenv(place, str(given))
        if token == cluster:
            check_ray()
    with pytest.raises(RequestError, match=f"refuses the token of {place}; show the one that .*{PLACES}; RAY_") as told:
        check_ray()
    assert f"the Ray cluster at {os.environ['RAY_ADDRESS']} " in str(told.value) and "planted" not in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize("length", [119, 120, 247, 5000])
def test_a_token_of_any_length_is_refused(cluster, monkeypatch, length):
    monkeypatch.setenv(TOKENS[0], "6" * length)
    with pytest.raises(RequestError, match="refuses the token of RAY_AUTH_TOKEN;"):
        check_token()


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_and_is_shown_none_is_told_with_why(cluster, monkeypatch, tmp_path):
    asks = "asks for a token, and is shown none"
    with pytest.raises(RequestError, match=rf"{asks} \(~/.ray/auth_token: No such file or directory\); .*{PLACES}"):
        check_token()
    written(tmp_path, " \n")
    with pytest.raises(RequestError, match=rf"{asks} \(~/.ray/auth_token: is empty\)"):
        check_token()
    monkeypatch.setenv(TOKENS[0], cluster)
    monkeypatch.setenv(AUTHENTICATION, "disabled")
    with pytest.raises(RequestError, match=rf"{asks} \(RAY_AUTH_MODE=disabled\)") as told:
        check_token()
    assert cluster not in str(told.value)


@pytest.mark.slow
def test_auto_finds_the_cluster_of_this_machine(cluster, monkeypatch, tmp_path):
    here = tmp_path / "a-raylet"
    here.write_text("#!/bin/sh\nread line\n")
    here.chmod(0o755)
    monkeypatch.setattr(ray_token, "RAYLET", here.name)
    monkeypatch.setenv(TOKENS[0], WRONG)
    address = os.environ["RAY_ADDRESS"]
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_ray()
    with subprocess.Popen([here, "x", f"--agent=python --gcs-address={address} y"], stdin=subprocess.PIPE) as process:
        with pytest.raises(RequestError, match=f"the Ray cluster at {address} refuses .*; RAY_ADDRESS=auto names it"):
            check_ray()
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [(), ("--dry-run",)])
def test_a_start_and_a_dry_run_with_a_token_that_is_refused_end_at_once_with_one_message(cluster, tiny, tmp_path, mode):
    environment = {**os.environ, TOKENS[0]: WRONG, "PYTHONPATH": str(REPOSITORY)}
    words = [*command(write_sweep(tmp_path, tiny)), *mode]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "refuses the token of RAY_AUTH_TOKEN;" in " ".join(done.stderr.split())
    assert "planted" not in done.stdout + done.stderr and "gcs_" not in done.stderr


@contextmanager
def asking_for_none(folder):
    """A cluster that is joined without a token: its address."""
    code = (
        "import ray; ray.init('local', num_cpus=1, include_dashboard=False, logging_level='ERROR');"
        "print(ray.get_runtime_context().gcs_address, flush=True); input()"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    begun = [sys.executable, "-c", code]
    environment = {**clean, AUTHENTICATION: "disabled"}
    with subprocess.Popen(
        begun, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.mark.slow
def test_a_cluster_that_asks_for_no_token_takes_any(no_token, monkeypatch, tmp_path):
    with asking_for_none(tmp_path) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        check_ray()
        written(tmp_path, "")
        check_ray()
        assert "joined without a token" in next(open_doors(False)), "by an empty file Ray would not join at all"
        monkeypatch.setenv(TOKENS[0], WRONG)
        check_ray()


@pytest.mark.parametrize("address", ["", "127.0.0.1:1"])
@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_token_that_ray_is_to_show_and_does_not_find_is_told(no_token, monkeypatch, tmp_path, address, content):
    monkeypatch.setenv("RAY_ADDRESS", address)
    file = tmp_path / "planted"
    if content is not None:
        file.write_text(content)
    why = "No such file or directory" if content is None else "is empty"
    monkeypatch.setenv(TOKENS[1], str(file))
    with pytest.raises(RequestError, match=rf"no token to show \(RAY_AUTH_TOKEN_PATH: {why}\); put .*{PLACES}") as told:
        check_token()
    assert "planted" not in str(told.value), "it may be a token that was put into the other variable"
    monkeypatch.setenv(AUTHENTICATION, "disabled")
    check_token()


def test_a_cluster_of_ones_own_needs_no_token_of_the_users(no_token, monkeypatch):
    monkeypatch.setenv(AUTHENTICATION, "token")
    check_token()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RequestError, match=r"no token to show \(~/.ray/auth_token: No such file or directory\)"):
        check_token()
