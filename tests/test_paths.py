"""Files that are whole or not there, and names that leave nothing behind."""

import errno
import os
import resource
import stat
from contextlib import contextmanager

import pytest

from toconv.paths import FOR_THE_OWNER, append_line, keep_private, link, whole_folder, write_atomic, write_new


def test_a_link_names_the_same_bytes_and_leaves_nothing_beside_it_however_often_it_is_made(tmp_path):
    source, target = tmp_path / "latest.pt", tmp_path / "best_model.pt"
    source.write_bytes(b"first")
    for _ in range(2):
        link(source, target)
        assert os.path.samefile(source, target)
        assert {path.name for path in tmp_path.iterdir()} == {"latest.pt", "best_model.pt"}
    source.unlink()
    source.write_bytes(b"second")
    link(source, target)
    assert target.read_bytes() == b"second" and len(list(tmp_path.iterdir())) == 2


def test_a_link_that_cannot_be_moved_into_place_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "latest.pt").write_bytes(b"first")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        link(tmp_path / "latest.pt", tmp_path / "folder")
    assert {path.name for path in tmp_path.iterdir()} == {"latest.pt", "folder"}


@contextmanager
def full_disk(most_bytes=1000):
    """RLIMIT_FSIZE of this process stands for it: every write past so many bytes fails, as with ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_atomic(path, bytes(5000)),
        lambda path: write_atomic(path, bytes(500_000)),
        lambda path: append_line(path, {"epoch": "1" * 5000}),
    ],
    ids=["at the flush", "while it is written", "a line more"],
)
def test_a_disk_that_is_full_is_told_with_the_file_that_could_not_be_written(tmp_path, write):
    with full_disk(), pytest.raises(OSError) as caught:
        write(tmp_path / "spent.json")
    assert str(caught.value) == f"[Errno {errno.EFBIG}] File too large: '{tmp_path / 'spent.json'}'"
    assert not [*tmp_path.glob(".*")]


def test_an_error_that_names_a_file_keeps_its_name(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "folder", "text")
    assert caught.value.filename2 == str(tmp_path / "folder")


def test_a_new_file_is_written_whole_and_one_that_is_there_stays(tmp_path):
    target = tmp_path / "mlflow.db"
    for content in (b"first", b"second"):
        write_new(target, content)
        assert target.read_bytes() == b"first" and list(tmp_path.iterdir()) == [target]


def test_of_two_processes_that_write_a_new_file_at_once_the_first_ones_stays(tmp_path, monkeypatch):
    """Also where both have one number, as processes of two containers on one disk have."""
    target, link = tmp_path / "mlflow.db", os.link

    def after_another(*paths):
        monkeypatch.setattr(os, "link", link)
        write_new(target, b"theirs")
        link(*paths)

    monkeypatch.setattr(os, "link", after_another)
    write_new(target, b"mine")
    assert target.read_bytes() == b"theirs" and [*tmp_path.iterdir()] == [target]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_what_is_moved_into_place_has_the_permissions_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "file", "text")
        write_atomic(tmp_path / "secret", "text", FOR_THE_OWNER)
        write_new(tmp_path / "new", b"text")
        with whole_folder(tmp_path / "folder") as fresh:
            (fresh / "file").touch()
    finally:
        os.umask(before)
    assert {mode(tmp_path / name) for name in ("file", "new", "folder/file")} == {0o666 & ~umask}
    assert mode(tmp_path / "secret") == 0o600 and mode(tmp_path / "folder") == 0o777 & ~umask


def test_a_private_file_is_made_so_or_made_so_again(tmp_path):
    made, there = tmp_path / "made", tmp_path / "there"
    there.write_text("kept")
    there.chmod(0o644)
    for path in (made, there):
        keep_private(path)
        assert mode(path) == 0o600
    assert there.read_text() == "kept"


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_folder_that_is_to_be_replaced_is_there_whatever_ends_it_and_whenever(tmp_path, monkeypatch, moves):
    target, replace = tmp_path / "export", os.replace
    target.mkdir()
    (target / "old").touch()
    left = [*range(moves)]

    def interrupted(source, to):
        if left:
            left.pop()
            replace(source, to)
        if not left:
            monkeypatch.setattr(os, "replace", replace)
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(target) as fresh:
        (fresh / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["export", "new" if moves == 2 else "old"]
