"""Which files of a folder are pictures, through links and in spite of what lies beside them."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.properties import any_input_is_taken_or_refused
from toconv.tokens import listing
from toconv.tokens.gather import gather
from toconv.tokens.listing import BROKEN, CLOSED, FORMAT, HIDDEN, LOOP, SPECIAL, TWICE, UNNAMED, Listing, pictures_below


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mix").mkdir()
    for name in ("mix/a.jpg", "mix/cats/b.PNG", "dogs/c.webp", "dogs/puppies/d.jpeg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path / "mix"


def names(found, root):
    return [Path(file).relative_to(root).as_posix() for file in found.files]


def left_out(found, root):
    return {why: sorted(os.path.relpath(path, root) for path in paths) for why, paths in found.left_out.items()}


def test_links_to_folders_and_files_are_followed(root):
    (root / "dogs").symlink_to("../dogs")
    (root / "same.jpg").symlink_to("a.jpg")
    found = Listing(root)
    assert names(found, root) == ["a.jpg", "cats/b.PNG", "dogs/c.webp", "dogs/puppies/d.jpeg", "same.jpg"]
    assert left_out(found, root) == {}
    linked = root.parent / "linked"
    linked.symlink_to("mix")
    assert [Path(f).name for f in Listing(linked).files] == [Path(f).name for f in found.files]


def test_the_same_rule_holds_for_what_compress_is_given(root):
    (root / "dogs").symlink_to("../dogs")
    (root / "round").symlink_to(".")
    for word in (root, f"{root}/**", f"{root}/**/*.*"):
        assert [picture.key for picture in gather([str(word)])] == ["a", "cats/b", "dogs/c", "dogs/puppies/d"]


@pytest.mark.parametrize("target", [".", "..", "/", "cats/../../mix"])
def test_a_link_to_a_folder_around_it_ends_there(root, target):
    (root / "round").symlink_to(target)
    found = Listing(root)
    assert names(found, root) == ["a.jpg", "cats/b.PNG"] and left_out(found, root) == {LOOP: ["round"]}


def test_each_folder_is_read_once_and_by_its_own_name_first(root):
    (root / "0_cats").symlink_to("cats")
    (root / "dogs1").symlink_to("../dogs")
    (root / "dogs2").symlink_to(root.parent / "dogs")
    (root / "puppies").symlink_to("../dogs/puppies")
    found = Listing(root)
    assert names(found, root) == ["a.jpg", "cats/b.PNG", "dogs1/c.webp", "dogs1/puppies/d.jpeg"]
    assert left_out(found, root) == {TWICE: ["0_cats", "dogs2", "puppies"]}


def test_links_that_lead_to_each_other_take_no_time(root):
    for level in range(30):
        (root.parent / f"level{level}").mkdir()
        for side in "ab":
            (root.parent / f"level{level}" / side).symlink_to(f"../level{level + 1}")
    (root.parent / "level30").mkdir()
    (root / "down").symlink_to("../level0")
    with any_input_is_taken_or_refused():
        assert names(Listing(root), root) == ["a.jpg", "cats/b.PNG"]


def test_what_is_no_picture_of_anybodys_is_left_out_with_its_reason(root):
    (root / "._a.jpg").write_bytes(b"AppleDouble")
    for folder in (".thumbnails", "__MACOSX", "@eaDir"):
        (root / folder).mkdir()
        (root / folder / "a.jpg").touch()
    (root / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "gone").symlink_to("nowhere")
    (root / "self.png").symlink_to("self.png")
    (root / "notes.txt").symlink_to("nowhere.txt")
    os.mkfifo(root / "pipe.png")
    found = Listing(root)
    assert names(found, root) == ["a.jpg", "cats/b.PNG"]
    assert left_out(found, root) == {
        HIDDEN: [".", "._a.jpg", ".thumbnails", "@eaDir", "__MACOSX"][1:],
        BROKEN: ["gone", "gone.jpg", "self.png"],
        SPECIAL: ["pipe.png"],
    }


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("name", ["IMG_001", "holiday.jpg.1", "scan.jpg_original", "a.data"])
def test_a_picture_that_is_not_named_as_one_is_left_out_with_its_reason(root, capsys, kind, name):
    Image.new("RGB", (4, 4)).save(root / name, kind)
    for other in ("notes.txt", "empty", "RIFF"):
        (root / other).write_text(other if other != "empty" else "")
    os.mkfifo(root / "pipe")
    found = Listing(root)
    assert names(found, root) == ["a.jpg", "cats/b.PNG"] and left_out(found, root) == {UNNAMED: [name]}
    gather([f"{root}/*"])
    assert f"({UNNAMED}): {name}" in capsys.readouterr().out


def test_a_folder_that_cannot_be_opened_is_left_out_with_its_reason(root, monkeypatch):
    (root / "closed").mkdir(mode=0)
    if os.access(root / "closed", os.R_OK):  # root may open it: a folder that goes away meanwhile takes its place
        scan = os.scandir
        refuse = {root / "closed": PermissionError(13, "Permission denied")}
        monkeypatch.setattr(os, "scandir", lambda path: scan(path) if path not in refuse else _raise(refuse[path]))
    found = Listing(root)
    assert names(found, root) == ["a.jpg", "cats/b.PNG"] and left_out(found, root) == {CLOSED: ["closed"]}


def _raise(error):
    raise error


def test_what_is_left_out_is_said_once_with_a_few_names(root, capsys):
    for number in range(5):
        (root / f"._{number}.jpg").touch()
    (root / os.fsdecode(b"\xff[b].jpg")).symlink_to("nowhere")
    for _ in range(2):
        pictures_below(root)
    said = capsys.readouterr().out
    assert said.count("left out (hidden): ._0.jpg, ._1.jpg, ._2.jpg and 2 more") == 1
    assert said.count(r"left out (broken link): \xff[b].jpg") == 1


NAME = st.binary(min_size=1, max_size=40).filter(lambda b: not set(b) & {0, 47} and b not in (b".", b".."))
ENTRY = st.tuples(NAME, st.sampled_from(["file", "folder", "link", "fifo"]), st.integers(0, 9))


@given(st.lists(ENTRY, max_size=12))
def test_any_folder_is_listed_with_each_file_once(tmp_path_factory, entries):
    root = tmp_path_factory.mktemp("any")
    places = [root]
    for name, kind, number in entries:
        path = places[number % len(places)] / (os.fsdecode(name) + (".jpg" if number % 2 else ""))
        if os.path.lexists(path):
            continue
        if kind == "folder":
            path.mkdir()
            places.append(path)
        elif kind == "link":
            path.symlink_to(places[number % len(places)])
        else:
            os.mkfifo(path) if kind == "fifo" else path.touch()
    with any_input_is_taken_or_refused():
        found = Listing(root).files
        real = [os.path.realpath(path) for path in found]
        assert len(set(real)) == len(real) and all(os.path.isfile(path) for path in found)
        assert {os.fspath(picture.path) for picture in gather([str(root)])} == set(found)


def test_suffixes_are_of_formats_that_have_a_name():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in listing.SUFFIXES)


def test_a_globs_matches_are_followed_and_told_as_a_folders_are(root, capsys):
    (root / "loop").symlink_to(".")
    (root / "again").symlink_to("../mix")
    (root / "cats2").symlink_to("cats")
    (root / "broken.jpg").symlink_to("gone.jpg")
    os.mkfifo(root / "pipe.png")
    for name in ("raw.nef", "drawn.svg"):
        (root / name).write_bytes(b"x")
    assert [picture.key for picture in gather([f"{root}/*"])] == ["a", "cats/b"]
    told = capsys.readouterr().out
    for part in (f"({LOOP}): again, loop", f"({TWICE}): cats2", f"({BROKEN}): broken.jpg", f"({SPECIAL}): pipe.png"):
        assert part in told
    assert f"({FORMAT}): drawn.svg, raw.nef" in told
    assert left_out(Listing(root), root)[FORMAT] == ["drawn.svg", "raw.nef"]
