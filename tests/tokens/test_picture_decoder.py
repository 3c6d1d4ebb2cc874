"""From a file to its pixels: every kind that a viewer opens is read right, or is refused with its reason."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.tokens.hostile import FORMATS, chunk, encoded, flipped, jpeg_that_claims, photograph, png, png16
from toconv.errors import DataError
from toconv.tokens.decoding import decode
from toconv.tokens.picture_decoder import FORMATS as READ

GREY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 109
COLOUR = np.random.default_rng(0).integers(0, 2**16, (20, 30, 4), dtype=np.uint16)


@pytest.fixture
def pixels(tmp_path):
    """(H, W, 3) of a file of that content."""

    def of(content, name="a.png"):
        path = tmp_path / name
        path.write_bytes(content)
        found = decode(path)
        return np.frombuffer(found.content, np.uint8).reshape(found.height, found.width, 3)

    return of


@pytest.fixture
def reason(pixels):
    """Why a file of that content is refused."""

    def of(content, name="a.png"):
        with pytest.raises(DataError) as caught:
            pixels(content, name)
        assert name in str(caught.value) and "Error" not in str(caught.value)
        return str(caught.value).partition(": ")[2]

    return of


def rgb(image):
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_is_read_as_pillow_reads_it_whatever_the_suffix_says(pixels, suffix):
    content = encoded(photograph(), **FORMATS[suffix])
    assert np.array_equal(pixels(content, "a.jpg"), rgb(Image.open(io.BytesIO(content))))
    assert FORMATS[suffix]["format"] in READ


@pytest.mark.parametrize(
    ("values", "colour"), [(GREY, 0), (COLOUR[..., :3], 2), (COLOUR[..., :2], 4), (COLOUR, 6)], ids=str
)
def test_sixteen_bits_are_scaled_to_eight(pixels, values, colour):
    shown = (values >> 8).astype(np.uint8).reshape(20, 30, -1)
    expected = np.repeat(shown[..., :1], 3, -1) if colour in (0, 4) else shown[..., :3]
    assert np.array_equal(pixels(png16(values, colour)), expected)


@pytest.mark.parametrize(("options", "invert"), [({}, 0), ({"tiffinfo": {262: 0}}, 255)])
def test_sixteen_bits_of_a_tiff_are_too_and_white_is_white(pixels, options, invert):
    content = encoded(Image.fromarray(GREY), format="TIFF", **options)
    assert np.array_equal(pixels(content, "a.tif")[..., 0], (GREY >> 8).astype(np.uint8) ^ invert)


def test_sixteen_bits_of_a_pgm_are_too(pixels):
    content = b"P5 30 20 65535\n" + GREY.astype(">u2").tobytes()
    assert np.array_equal(pixels(content, "a.pgm")[..., 1], (GREY >> 8).astype(np.uint8))


@pytest.mark.parametrize(("mode", "suffix"), [("F", ".tif"), ("I", ".tif")])
def test_numbers_without_a_white_are_refused(reason, mode, suffix):
    assert "no fixed white" in reason(encoded(photograph().convert("L").convert(mode), format="TIFF"), f"a{suffix}")


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        ({"format": "GIF"}, ".gif"),
        ({"format": "WEBP", "lossless": True}, ".webp"),
        ({"format": "PNG"}, ".png"),
        ({"format": "TIFF"}, ".tif"),
        ({"format": "MPO", "quality": 100, "subsampling": 0}, ".jpg"),
    ],
)
def test_of_several_frames_the_first_is_taken(pixels, options, suffix):
    first = photograph().quantize(64).convert("RGB")
    content = encoded(first, save_all=True, append_images=[ImageOps.invert(first), first.rotate(180)], **options)
    difference = pixels(content, f"a{suffix}").astype(int) - rgb(first)
    assert np.abs(difference).mean() < 1.5


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_picture_is_turned_as_exif_says(pixels, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}}.get(suffix, {})
    content = encoded(photograph(), exif=exif, format=FORMATS[suffix]["format"], **options)
    upright = pixels(encoded(photograph(), format="PNG"))
    turned = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (3, 1), 6: (3, 0), 7: (1, 1), 8: (1, 0)}[orientation]
    expected = np.rot90(upright, turned[0])
    assert np.array_equal(pixels(content, f"a{suffix}"), expected[:, ::-1] if turned[1] else expected)


def test_exif_that_is_damaged_turns_nothing(pixels):
    plain = png16(GREY, 0)
    for content in (b"", b"MM", b"II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(9)):
        damaged = plain[:33] + chunk(b"eXIf", content) + plain[33:]
        assert np.array_equal(pixels(damaged), pixels(plain))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_palettes_grey_and_transparency_become_rgb(pixels, mode):
    image = photograph().convert(mode)
    assert np.array_equal(pixels(encoded(image, format="PNG")), rgb(image))


def test_cmyk_is_read_as_before(pixels):
    content = encoded(photograph().convert("CMYK"), format="JPEG", quality=100)
    assert np.array_equal(pixels(content, "a.jpg"), rgb(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_of_a_png_is_found(reason, bit):
    content = encoded(photograph(), format="PNG")
    for place in (content.index(b"IDAT") + 20, content.index(b"IHDR") + 6, content.index(b"IDAT") + 4):
        assert reason(flipped(content, place, bit))


@pytest.mark.parametrize("side", [50_000, 2**31 - 1, 20_000])
def test_a_png_that_claims_to_be_large_is_refused_before_it_is_decoded(reason, side):
    assert f"{side * side} pixels, data.max_pixels=100000000" in reason(png(side, side, 8, 2, b""))


@pytest.mark.parametrize("side", [65_500, 30_000])
def test_a_jpeg_that_claims_to_be_large_is_too(reason, side):
    assert f"{side * side} pixels, data.max_pixels=100000000" in reason(jpeg_that_claims(side), "a.jpg")


def test_others_that_claim_to_be_large_are_too(reason):
    gif = encoded(photograph(), format="GIF")
    assert "data.max_pixels" in reason(gif[:6] + struct.pack("<HH", 60_000, 60_000) + gif[10:], "a.gif")
    bmp = encoded(photograph(), format="BMP")
    assert "data.max_pixels" in reason(bmp[:18] + struct.pack("<ii", 40_000, 40_000) + bmp[26:], "a.bmp")
    assert "data.max_pixels" in reason(b"P6 70000 70000 255\n", "a.ppm")


@pytest.mark.parametrize("suffix", [s for s in FORMATS if s != ".ico"])
def test_half_a_file_is_refused(reason, suffix):
    content = encoded(photograph(200, 150), **FORMATS[suffix])
    assert reason(content[: len(content) // 2], f"a{suffix}")


def test_what_is_no_picture_is_refused_with_what_would_be_one(reason):
    assert reason(b"", "a.jpg") == "the file is empty"
    for content in (b"no picture", b"\xff\xd8\xff", b"%PDF-1.7", b"\0" * 4096, b"%!PS-Adobe-3.0 EPSF-3.0"):
        assert "not a picture that can be read" in reason(content, "a.jpg")
    assert "HEIC is not read; save it as" in reason(struct.pack(">I", 24) + b"ftypheic" + bytes(40), "a.heic")


def test_text_that_is_a_bomb_takes_no_memory(reason):
    import zlib

    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000), 9))
    assert reason(png(30, 20, 8, 0, bytes(31 * 20), bomb))
