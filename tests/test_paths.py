"""Files that are whole or not there, and names that leave nothing behind."""

import os
import stat

import pytest

from toconv.paths import FOR_THE_OWNER, keep_private, link, whole_folder, write_atomic, write_new


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


def test_a_new_file_is_written_whole_and_one_that_is_there_stays(tmp_path):
    target = tmp_path / "mlflow.db"
    for content in (b"first", b"second"):
        write_new(target, content)
        assert target.read_bytes() == b"first" and list(tmp_path.iterdir()) == [target]


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
