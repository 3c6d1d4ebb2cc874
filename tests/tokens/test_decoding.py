"""Pictures decoded by processes of their own: whatever is in a file, it costs that picture at most."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.properties import any_input_is_taken_or_refused
from tests.tokens.hostile import FORMATS, encoded, flipped, photograph
from toconv.errors import DataError
from toconv.tokens import decoding
from toconv.tokens.decoding import Decoder, decode, end_decoders
from toconv.tokens.images import Picture
from toconv.tokens.pixels import centre_view
from toconv.tokens.pixels import decode as decode_tensor

REAL = {suffix: encoded(photograph(), **options) for suffix, options in FORMATS.items()}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(REAL[".png"])
    return path


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_decoder_that_crashes_costs_one_picture(picture, number):
    end_decoders()
    decoder = Decoder()
    os.kill(decoder._process.pid, number)
    decoder._process.wait()
    decoding._idle.put(decoder)
    with pytest.raises(DataError, match=f"a.png: not a picture that can be read .the decoder ended with {number.name}"):
        decode(picture)
    assert decode(picture).width == 48


def test_a_picture_that_takes_too_long_or_too_much_memory_is_refused_with_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("RGB", (4000, 4000)).save(path, compress_level=1)
    assert decode(path).height == 4000
    monkeypatch.setattr(decoding, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(decoding, "PIXELS_A_SECOND", 10**12)
    with pytest.raises(DataError, match="large.png: decoding takes more than 0.01 s"):
        decode(path)
    monkeypatch.setattr(decoding, "LEAST_SECONDS", 4.0)
    monkeypatch.setattr(decoding, "LEAST_MEMORY", 2**25)
    monkeypatch.setattr(decoding, "BYTES_A_PIXEL", 0)
    with pytest.raises(DataError, match="large.png: decoding takes more than 32 MB of memory"):
        decode(path)
    monkeypatch.undo()
    assert decode(path).height == 4000


def test_data_max_pixels_is_the_largest_that_is_read(picture):
    assert decode(picture, 48 * 36).width == 48
    with pytest.raises(DataError, match=f"a.png: {48 * 36} pixels, data.max_pixels={48 * 36 - 1}$"):
        decode(picture, 48 * 36 - 1)


def test_threads_decode_side_by_side_and_what_waits_is_used_again(picture):
    end_decoders()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: bytes(decode(picture).content), range(40)))
    assert len(set(found)) == 1 and 1 <= decoding._idle.qsize() <= 4
    end_decoders()
    assert decoding._idle.qsize() == 0


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.png: cannot be opened \(No such file or directory\)"):
        decode(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"folder.png: cannot be opened \(Is a directory\)"):
        (tmp_path / "folder.png").mkdir()
        decode(tmp_path / "folder.png")


@given(
    suffix=st.sampled_from(sorted(REAL)),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 4000)),
    splice=st.tuples(st.integers(0, 10**6), st.binary(max_size=16)),
    name=st.binary(min_size=1, max_size=80).filter(lambda b: not set(b) & {0, 47}),
)
def test_any_bytes_become_pixels_or_a_reason(tmp_path_factory, suffix, flips, cut, splice, name):
    content = REAL[suffix]
    for place, bit in flips:
        content = flipped(content, place % len(content), bit)
    content = content[: splice[0] % len(content)] + splice[1] + content[splice[0] % len(content) :]
    folder = tmp_path_factory.mktemp("any")
    path = folder / f"{os.fsdecode(name)}{suffix}"
    path.write_bytes(content[:cut])
    with any_input_is_taken_or_refused():
        image_3HW = decode_tensor(Picture("a", path))
        assert centre_view(image_3HW, 24).shape == (3, 24, 24)
    assert [p.name for p in folder.iterdir()] == [path.name]


@given(
    content=st.binary(max_size=300), start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"II*\0", b"RIFF"])
)
def test_bytes_of_no_picture_at_all_have_a_reason(tmp_path_factory, content, start):
    path = tmp_path_factory.mktemp("any") / "a.jpg"
    path.write_bytes(start + content)
    with any_input_is_taken_or_refused(), pytest.raises(DataError, match=r"a\.jpg: \w"):
        decode(path)
