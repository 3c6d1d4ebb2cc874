"""Which pictures a command line names, and what their outputs are called."""

import pytest

from toconv.errors import RequestError
from toconv.tokens.gather import gather


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.PNG", "notes.txt", "day1/a.jpg", "day1/c.webp", "day2/deep/a.jpeg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(*words):
    return [picture.key for picture in gather(words)]


def test_a_folder_is_all_pictures_below_it_and_outputs_mirror_it(photos):
    assert sorted(keys("photos")) == ["a", "b", "day1/a", "day1/c", "day2/deep/a"]
    assert sorted(keys(str(photos / "photos"))) == sorted(keys("photos"))


def test_a_glob_is_what_matches_below_its_fixed_part(photos):
    assert keys("photos/*") == ["a", "b", "day1/a", "day1/c", "day2/deep/a"]
    assert sorted(keys("photos/**/a.*")) == ["a", "day1/a", "day2/deep/a"]
    assert keys("photos/day?/*.webp") == ["day1/c"]


def test_pictures_of_one_name_in_two_folders_keep_their_folders(photos):
    assert keys("photos/day1/a.jpg", "photos/a.jpg") == ["day1/a", "a"]
    assert sorted(keys("photos/day1", "photos/day2")) == ["day1/a", "day1/c", "day2/deep/a"]
    assert keys("photos/day1/a.jpg") == ["a"]


def test_a_picture_named_twice_is_taken_once(photos):
    assert sorted(keys("photos/day1", "photos/day1/a.jpg", "photos/day1/*.jpg")) == ["a", "c"]
    assert sorted(keys("photos/day1", "empty/../photos/day1/a.jpg")) == ["a", "c"]


def test_outputs_that_would_have_one_name_are_refused(photos):
    (photos / "photos" / "a.png").write_bytes(b"another")
    with pytest.raises(RequestError, match="photos/a.jpg and photos/a.png: the outputs of both would be called a$"):
        keys("photos/a.jpg", "photos/a.png", "photos/b.PNG")


def test_whatever_is_not_there_is_named(photos):
    with pytest.raises(RequestError) as caught:
        keys("photos/a.jpg", "nowhere.jpg", "empty", "photos/*.gif")
    assert caught.value.mistakes == [
        "nowhere.jpg: no picture there",
        "empty: no picture there",
        "photos/*.gif: no picture there",
    ]
