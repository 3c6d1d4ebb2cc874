"""No command writes over an input, or over a file that toconv did not make."""

import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from toconv.commands import compress
from toconv.errors import RequestError
from toconv.own_files import MARK, MARK_KEY, check_sweep_folder, inode, is_marked, output_mistakes
from toconv.paths import SweepPaths
from toconv.tokens.gather import gather


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The working directory, with a picture in it and one in a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trip").mkdir()
    for name in ("holiday.png", "trip/holiday.png", "trip/beach.jpg"):
        Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / name)
    return tmp_path


def drawn(path):
    """A file as `toconv compress` makes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text(MARK_KEY, MARK)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def refused(*words):
    with pytest.raises(RequestError) as caught:
        compress.main([*map(str, words), "--checkpoint", "no/such"])
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["holiday.png"], "."),
        (["./trip/../holiday.png"], ""),
        (["trip"], "trip/../trip"),
        (["linked/holiday.png"], "trip"),
        (["trip/holiday.png"], "linked"),
        (["hard/holiday.png"], "trip"),
        (["."], "."),
    ],
)
def test_an_input_is_never_an_output_whatever_it_is_called(photos, words, output):
    (photos / "linked").symlink_to("trip")
    (photos / "hard").mkdir()
    os.link(photos / "trip/holiday.png", photos / "hard/holiday.png")
    before = (photos / "holiday.png").read_bytes()
    found = refused(*words, "--output", output)
    assert any("holiday.png: not written: it is " in line and "given as a picture" in line for line in found)
    assert (photos / "holiday.png").read_bytes() == before


def test_a_file_that_toconv_did_not_make_stays(photos):
    out = photos / "out"
    out.mkdir()
    (out / "holiday.safetensors").write_bytes(b"mine")
    (out / "holiday.png").symlink_to("nowhere.png")
    found = refused("holiday.png", "--output", "out")
    assert len(found) == 2 and all("is there, and toconv compress did not make it" in line for line in found)
    assert (out / "holiday.safetensors").read_bytes() == b"mine"


def test_a_link_to_a_file_that_toconv_made_stays_too(photos):
    drawn(photos / "kept.png")
    (photos / "out").mkdir()
    (photos / "out/holiday.png").symlink_to("../kept.png")
    assert "toconv compress did not make it" in refused("holiday.png", "--output", "out")[0]


def test_nothing_is_written_outside_the_output_folder(photos):
    (photos / "out").mkdir()
    (photos / "out/trip").symlink_to(photos / "trip")
    found = refused("holiday.png", "trip/beach.jpg", "--output", "out")
    assert any("a link leads out of the output folder, to" in line for line in found)


def test_an_output_folder_that_is_a_file_is_refused(photos):
    for output in ("holiday.png", "holiday.png/below"):
        assert refused("trip", "--output", output)[0].startswith(f"--output {output}: ")
    (photos / "out").mkdir()
    (photos / "out/trip").touch()
    assert "out/trip is a file" in " ".join(refused("holiday.png", "trip/beach.jpg", "--output", "out"))


def test_a_name_too_long_for_its_outputs_is_refused(photos):
    name = "é" * 124 + ".png"
    (photos / name).write_bytes((photos / "holiday.png").read_bytes())
    assert "the name is longer than 255 bytes" in refused(name)[0]


def test_what_an_earlier_run_drew_is_written_over_and_is_no_picture(photos, capsys):
    drawn(photos / "compressed/holiday.png")
    drawn(photos / "trip/beach.png")
    pictures = gather(["holiday.png", "trip/beach.jpg", "trip/*"])
    assert [picture.path.name for picture in pictures] == ["holiday.png", "beach.jpg", "holiday.png"]
    targets = [Path(f"compressed/{name}") for name in ("holiday.png", "holiday.safetensors")]
    assert output_mistakes(targets, Path("compressed"), {inode(p.path): p.path for p in pictures}) == []
    assert "left out (a map that toconv compress drew): beach.png" in capsys.readouterr().out


def test_a_mark_is_known_from_the_file_alone(photos):
    drawn(photos / "a.png")
    assert is_marked(photos / "a.png") and not is_marked(photos / "holiday.png")
    assert not is_marked(photos) and not is_marked(photos / "gone.png")
    for content in (b"", b"\x89PNG\r\n\x1a\n", MARK.encode(), f"Made by {MARK}".encode()):
        (photos / "b.png").write_bytes(content)
        assert not is_marked(photos / "b.png")


def test_a_folder_that_is_no_sweeps_is_refused(tmp_path):
    paths = SweepPaths(tmp_path / "mine")
    check_sweep_folder(paths)
    paths.root.mkdir()
    (paths.root / "notes.txt").touch()
    check_sweep_folder(paths)
    paths.report.write_text("my own report")
    paths.figures.mkdir()
    with pytest.raises(RequestError, match="holds report.html, figures and no sweep.yaml"):
        check_sweep_folder(paths)
    paths.request.touch()
    check_sweep_folder(paths)


def test_a_picture_whose_name_reads_like_a_setting_is_a_picture(photos):
    (photos / "encoder.name=a.png").write_bytes((photos / "holiday.png").read_bytes())
    found = refused("encoder.name=a.png", "data.max_pixels=9", "--output", ".")
    assert len(found) == 1 and "encoder.name=a.png: not written: it is" in found[0]
    assert refused("holiday.png", "data.max_pixels=9", "data.crops=3") == ["data.crops=3: no picture there"]
