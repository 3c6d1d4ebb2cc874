"""Which photographs are the default ones, and what is said of them."""

import re
from collections import Counter

import pytest

from tests.npm import described, package, photographs
from toconv import config
from toconv.errors import DataError
from toconv.tokens import listing, samples
from toconv.tokens.archive import CACHE
from toconv.tokens.images import list_splits, sources

DATA = config.compose({}).data


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """The folder of three photographs, in place of the archive's."""
    pictures = photographs()
    archive = described(package(pictures), pictures)
    monkeypatch.setattr(samples, "ARCHIVE", archive)
    monkeypatch.setenv(CACHE, str(tmp_path))
    archive.folder.mkdir()
    for name, content in pictures.items():
        (archive.folder / name).write_bytes(content)
    return archive.folder


def keys(splits):
    return {name: [p.key for p in pictures] for name, pictures in splits.items()}


def test_without_the_archive_they_are_27_and_it_is_said_how_to_have_the_others(capsys):
    listing.say_once.cache_clear()
    splits = keys(list_splits(DATA))
    everything = [key for names in splits.values() for key in names]
    assert Counter(key.split("/")[0] for key in everything) == {"foolbox": 20, "skimage": 5, "sklearn": 2}
    assert len(set(everything)) == 27 and all(splits.values()) and splits == keys(list_splits(DATA))
    assert sources(DATA) == "27 of packages"
    said = capsys.readouterr().out
    assert said == "photographs: 27 of packages; 50 more of tabler-ui 0.0.34: toconv samples (once, 35 MB)\n"


def test_those_that_were_fetched_are_among_them_and_the_split_is_always_the_same(fetched, capsys):
    listing.say_once.cache_clear()
    splits = keys(list_splits(DATA))
    assert sorted(key for names in splits.values() for key in names if key.startswith("views/")) == [
        f"views/{path.name}" for path in sorted(fetched.iterdir())
    ]
    assert sum(map(len, splits.values())) == 30 and splits == keys(list_splits(DATA))
    assert sources(DATA) == "27 of packages, 3 of views 1.2.3"
    assert capsys.readouterr().out == "photographs: 27 of packages, 3 of views 1.2.3\n"


def test_what_is_fetched_while_a_process_is_at_work_is_there_for_the_next_one(fetched, tmp_path):
    fetched.rename(tmp_path / "to come")
    splits = keys(list_splits(DATA))
    (tmp_path / "to come").rename(fetched)  # `toconv samples`, while a sweep encodes its tokens
    assert keys(list_splits(DATA)) == splits and sources(DATA) == "27 of packages"


def test_fetched_ones_that_are_not_as_they_were_are_refused_with_what_to_do(fetched):
    (fetched / "lake.jpg").unlink()
    with pytest.raises(DataError, match=f"{re.escape(str(fetched))}: not as it was fetched; run: toconv samples, or"):
        list_splits(DATA)


def test_another_source_of_pictures_has_nothing_to_tell(settings):
    assert sources(settings.data) is None
