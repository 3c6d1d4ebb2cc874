"""Which files are read to know their sha256, and which are known by how they look."""

import hashlib
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from toconv import config, known_files
from toconv.known_files import add_known, forget, keep_known, known_sha256, note, read_known
from toconv.tokens.images import digests, keep_pictures, list_splits

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
    monkeypatch.setattr(known_files, "_held", {})


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


def test_a_file_of_this_moment_is_not_kept(tmp_path, reads, monkeypatch):
    """Written again within the clock's step, it would look the same."""
    fresh, settled = tmp_path / "fresh", written(tmp_path / "settled", b"old")
    fresh.write_bytes(b"new")
    moment = fresh.stat().st_mtime_ns + 10**9
    monkeypatch.setattr(known_files, "time", SimpleNamespace(time_ns=lambda: moment))
    for path in (fresh, settled):
        known_sha256(path)
    keep_known(tmp_path / "known.json", [fresh, settled])
    assert [*json.loads((tmp_path / "known.json").read_text())] == ["settled"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a": [1, 2]}', b'{"a": "00ff"}', b'{"a": "%s"}' % (b"x" * 112), b"{", b'{"a\xff": "00"}']
)
def test_what_was_kept_and_is_damaged_is_nothing(tmp_path, reads, content):
    path, kept = written(tmp_path / "a", b"one"), tmp_path / "known.json"
    kept.write_bytes(content)
    read_known(kept)
    assert known_sha256(path) == digest(b"one") and reads == [path]
    keep_known(kept, [path])
    assert json.loads(kept.read_text())["a"].endswith(digest(b"one"))


def test_what_is_added_leaves_what_was_known_of_others_whose_folder_is_there(tmp_path, reads, monkeypatch):
    (tmp_path / "going").mkdir()
    first, second, going = (written(tmp_path / name, name.encode()) for name in ("first", "second", "going/third"))
    kept = tmp_path / "known.json"
    for asked in ([first, going], [second]):
        new_process(monkeypatch)
        read_known(kept)
        for path in asked:
            known_sha256(path)
        add_known(kept, asked)
    assert [*json.loads(kept.read_text())] == ["first", "going/third", "second"]
    shutil.rmtree(going.parent)
    add_known(kept, [second])
    assert [*json.loads(kept.read_text())] == ["first", "second"]
    monkeypatch.setattr(known_files, "MOST_BYTES", kept.stat().st_size - 1)
    known_sha256(written(second, b"anew"))
    add_known(kept, [second])
    assert [*json.loads(kept.read_text())] == ["second"]


def test_what_another_process_added_since_the_file_was_read_stays(tmp_path, reads, monkeypatch):
    first, second = (written(tmp_path / name, name.encode()) for name in ("first", "second"))
    kept = tmp_path / "known.json"
    read_known(kept)
    known_sha256(first)  # of a million pictures, say
    with monkeypatch.context() as meanwhile:
        new_process(meanwhile)
        known_sha256(second)
        add_known(kept, [second])
    add_known(kept, [first])
    assert [*json.loads(kept.read_text())] == ["first", "second"]


@pytest.fixture
def folders(photographs, tmp_path):
    """Settings of two folders of pictures whose tokens lie in one place."""
    found = []
    for number in range(2):
        folder = tmp_path / f"pictures{number}"
        shutil.copytree(photographs, folder)
        for path in folder.iterdir():
            written(path, path.read_bytes() + bytes([number]))
        given = {"data": "folder", "data.root": str(folder), "data.tokens_dir": str(tmp_path / "tokens")}
        found.append(given)
    return found


def hashed(monkeypatch, reads, given):
    """The number of pictures that a new process reads to know their bytes."""
    new_process(monkeypatch)
    reads.clear()
    data = config.compose(given).data
    splits = list_splits(data)
    digests([picture for pictures in splits.values() for picture in pictures], data.workers)
    keep_pictures(data, splits)
    return len(reads)


def test_two_data_sets_in_turn_are_hashed_once_each(folders, reads, monkeypatch):
    kept = config.compose(folders[0]).data.tokens_dir / "known-pictures.json"
    assert [hashed(monkeypatch, reads, given) for given in folders] == [12, 12]
    before = kept.stat().st_ino
    assert [hashed(monkeypatch, reads, given) for given in folders * 2] == [0] * 4
    assert kept.stat().st_ino == before, "what is known already is not written again"


@pytest.mark.parametrize("limited_first", [True, False])
def test_a_data_set_and_a_limited_choice_of_it_are_hashed_once_between_them(folders, reads, monkeypatch, limited_first):
    limited = folders[0] | {"data.train_pictures": 3}
    in_turn = [limited, folders[0]] if limited_first else [folders[0], limited]
    assert [hashed(monkeypatch, reads, given) for given in in_turn * 2] == [12, 0, 0, 0]


@pytest.mark.parametrize("limited_first", [True, False])
def test_pictures_of_imagenet_are_hashed_when_they_are_first_chosen(folders, reads, monkeypatch, limited_first):
    root = config.compose(folders[0]).data.root
    for number, path in enumerate(sorted(root.iterdir())):
        folder = root / ("val" if number < 4 else "train") / "n01440764"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    whole = {"data": "imagenet", "data.imagenet_root": str(root), "data.tokens_dir": folders[0]["data.tokens_dir"]}
    whole |= {"data.train_pictures": None}
    in_turn = [{**whole, "data.train_pictures": 3}, whole]
    found = [hashed(monkeypatch, reads, given) for given in (in_turn if limited_first else in_turn[::-1]) * 2]
    assert found == ([7, 5, 0, 0] if limited_first else [12, 0, 0, 0])


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_pictures_of_a_folder_that_is_named_from_here_are_hashed_once(photographs, tmp_path, reads, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for part in ("train/n01440764", "val/n01440764"):
        shutil.copytree(photographs, tmp_path / "pictures" / part)
    for path in (tmp_path / "pictures").rglob("*.*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    root = "data.root" if kind == "folder" else "data.imagenet_root"
    given = {"data": kind, root: "pictures", "data.tokens_dir": "tokens"}
    assert [hashed(monkeypatch, reads, given) for _ in range(2)] == [24, 0]


def test_pictures_that_are_skipped_are_hashed_once(folders, reads, monkeypatch):
    broken = config.compose(folders[0]).data.root / "broken.jpg"
    written(broken, b"no picture")
    given = folders[0] | {"data.unreadable": "skip"}
    assert [hashed(monkeypatch, reads, given) for _ in range(2)] == [13, 0]
