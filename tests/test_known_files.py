"""Which files are read to know their sha256, and which are known by how they look."""

import hashlib
import json
import os

import pytest

from toconv import known_files
from toconv.known_files import forget, keep_known, known_sha256, note, read_known

LONG_AGO = 1_600_000_000


@pytest.fixture
def reads(monkeypatch):
    """The files that are read, from now on; what this process knew is forgotten."""
    found, sha256 = [], known_files.sha256

    def counted(path):
        found.append(path)
        return sha256(path)

    monkeypatch.setattr(known_files, "sha256", counted)
    new_process(monkeypatch)
    return found


def new_process(monkeypatch):
    monkeypatch.setattr(known_files, "_seen", {})
    monkeypatch.setattr(known_files, "_read", set())


def written(path, content, at=LONG_AGO):
    path.write_bytes(content)
    os.utime(path, (at, at))
    return path


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_and_again_when_size_time_or_inode_change(tmp_path, reads):
    path = written(tmp_path / "a", b"one")
    assert [known_sha256(path) for _ in range(3)] == [digest(b"one")] * 3 and len(reads) == 1
    for content, at, replaced in ((b"longer", LONG_AGO, False), (b"LONGER", LONG_AGO + 1, False), (b"longer", 0, True)):
        if replaced:
            os.replace(written(tmp_path / "b", content, LONG_AGO + 1), path)
        else:
            written(path, content, at)
        before = len(reads)
        assert known_sha256(path) == digest(content)
        assert len(reads) == before + 1


def test_a_flip_that_changes_no_look_is_seen_once_the_file_is_forgotten(tmp_path, reads):
    path = written(tmp_path / "a", b"one")
    known_sha256(path)
    with path.open("r+b") as file:
        file.write(b"ONE")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert known_sha256(path) == digest(b"one")
    forget(path)
    assert known_sha256(path) == digest(b"ONE")


def test_a_later_process_reads_what_changed_and_nothing_else(tmp_path, reads, monkeypatch):
    same, other = (written(tmp_path / name, name.encode()) for name in ("same", "other"))
    kept = tmp_path / "kept" / "known.json"
    kept.parent.mkdir()
    for path in (same, other):
        known_sha256(path)
    keep_known(kept, [same, other])
    new_process(monkeypatch)
    reads.clear()
    written(other, b"otherwise")
    read_known(kept)
    assert (known_sha256(same), known_sha256(other)) == (digest(b"same"), digest(b"otherwise"))
    assert reads == [other]


def test_what_is_noted_needs_no_reading(tmp_path, reads):
    path = written(tmp_path / "a", b"one")
    note(path, digest(b"one"))
    assert known_sha256(path) == digest(b"one") and not reads


def test_a_file_of_this_moment_is_not_kept(tmp_path, reads):
    """Written again within the clock's step, it would look the same."""
    fresh, settled = tmp_path / "fresh", written(tmp_path / "settled", b"old")
    fresh.write_bytes(b"new")
    for path in (fresh, settled):
        known_sha256(path)
    keep_known(tmp_path / "known.json", [fresh, settled])
    assert [*json.loads((tmp_path / "known.json").read_text())] == ["settled"]


@pytest.mark.parametrize("content", ["", "[]", '{"a": [1, 2]}', '{"a": [1, 2, 3, 4]}', "{"])
def test_what_was_kept_and_is_damaged_is_nothing(tmp_path, reads, content):
    path, kept = written(tmp_path / "a", b"one"), tmp_path / "known.json"
    kept.write_text(content)
    read_known(kept)
    assert known_sha256(path) == digest(b"one") and reads == [path]
    keep_known(kept, [path])
    assert json.loads(kept.read_text())["a"][3] == digest(b"one")
