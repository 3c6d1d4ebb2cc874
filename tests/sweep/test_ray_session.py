"""The folder of a Ray cluster of our own is private, and goes with it or with the next one."""

import fcntl
import os
import stat
import subprocess
import sys

import pytest

from tests.repository import REPOSITORY
from toconv.sweep.ray_session import RaySession, _remove_left_over

HOLD = """
import sys
from toconv.sweep.ray_session import *
session = RaySession(Path(sys.argv[1]))
print(session.folder, flush=True)
input()
"""


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_a_session_and_its_token_are_its_owners_alone(tmp_path):
    session = RaySession(tmp_path)
    token = session.folder / "token"
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token) and len(token.read_text()) == 64
    assert [stat.S_IMODE(path.stat().st_mode) for path in (session.folder, token)] == [0o700, 0o600]
    session.remove()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ and not [*tmp_path.iterdir()]


def test_a_token_that_the_user_gives_is_the_one(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    session = RaySession(tmp_path)
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ and not (session.folder / "token").exists()
    session.remove()


def test_what_a_killed_driver_left_goes_and_what_lives_or_is_another_stays(tmp_path):
    other = tmp_path / "ray_of_mine"
    other.mkdir()
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        left = holder.stdout.readline().strip()
        session = RaySession(tmp_path)
        assert os.path.isdir(left) and session.folder.is_dir()
        holder.kill()
        holder.wait()
    session.remove()
    RaySession(tmp_path).remove()
    assert [*tmp_path.iterdir()] == [other]


def test_a_session_that_begins_is_not_taken_for_one_that_a_killed_driver_left(tmp_path, monkeypatch):
    lock = fcntl.flock

    def after_another_driver(*given):
        monkeypatch.setattr(fcntl, "flock", lock)
        _remove_left_over(tmp_path)
        return lock(*given)

    monkeypatch.setattr(fcntl, "flock", after_another_driver)
    session = RaySession(tmp_path)
    assert session.folder.is_dir()
    _remove_left_over(tmp_path)
    assert session.folder.is_dir(), "it is held by the name that drivers look for"
    session.remove()
    assert not [*tmp_path.iterdir()]
