"""Files that are whole or not there, and names that leave nothing behind."""

import os

from toconv.paths import link, write_new


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
