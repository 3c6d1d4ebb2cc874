"""Picture files → RGB pixels, one after the other, in a process of its own: a picture that ends it costs that picture.

The only module that knows Pillow. `tokens/decoding.py` starts it as a script; it imports nothing of toconv, so that it
is ready in a tenth of a second. A request is a line of JSON: path, max_pixels, memory in bytes, seconds of CPU. The
answer is a line with the `size` (width, height), then height·width·3 bytes; or with the `reason` why there are none.
With `side` in the request it is that side of a square of grey, and side·side bytes."""

import json
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import IO

from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "JPEG2000", "AVIF")
NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000, PPM and ICO"
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands of ISO/IEC 23008-12
ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HIGH_BYTES = {"I;16": slice(1, None, 2), "I;16L": slice(1, None, 2), "I;16B": slice(0, None, 2)}  # of 16-bit grey
HIGH_BYTE_OF_32 = slice(1, None, 4) if sys.byteorder == "little" else slice(2, None, 4)
WITHOUT_ALPHA = {"La": "LA", "RGBa": "RGBA"}  # premultiplied modes, which convert to nothing else
CONVERTIBLE = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}
BAND_BYTES = 2**22  # converted at a time


class NotReadError(Exception):
    """Why a picture is not read."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; with it stdin ends
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints is no answer
        _say(answers, ready=True)
        for line in sys.stdin.buffer:
            _answer(answers, **json.loads(line))


def _answer(
    answers: IO[bytes], path: str, max_pixels: int, memory: int, seconds: float, side: int | None = None
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends this process
    try:
        with open(path, "rb") as file:
            image = read(file, max_pixels, side)
    except Exception as error:
        _say(answers, reason=_reason(error, memory))
    else:
        _say(answers, size=image.size)
        for band in [image.tobytes()] if side else _bands(image):
            answers.write(band)
        answers.flush()
    signal.setitimer(signal.ITIMER_PROF, 0)


def _say(answers: IO[bytes], **answer: object) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def read(file: IO[bytes], max_pixels: int, side: int | None = None) -> Image.Image:
    """The first frame, turned as EXIF says, in a mode that converts to RGB; of a `side` a square of grey, for which a
    JPEG is decoded at a fraction of its size. Raises NotReadError, and whatever Pillow raises."""
    Image.MAX_IMAGE_PIXELS = max_pixels  # of pictures within pictures
    start = file.read(32)
    if not start:
        raise NotReadError("the file is empty")
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        raise NotReadError("HEIC is not read; save it as JPEG, PNG or AVIF")
    file.seek(0)
    image: Image.Image = Image.open(file, formats=FORMATS)
    if image.width * image.height > max_pixels:
        raise NotReadError(_too_large(image.width * image.height, max_pixels))
    if image.format == "PNG":
        image.verify()  # the checksums of its chunks, which decoding leaves out
        file.seek(0)
        image = Image.open(file, formats=FORMATS)
    if side:
        image.draft("L", (2 * side, 2 * side))
    image.load()
    turn = TURNS.get(_orientation(image))
    eight_bits = _in_eight_bits(image)
    if side:
        eight_bits = eight_bits.convert("L").resize((side, side), Image.Resampling.LANCZOS)
    return eight_bits.transpose(turn) if turn is not None else eight_bits


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 where that is damaged: it decides nothing but the side that is up."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Of 16-bit grey the high byte, as everywhere for 16-bit colour. Raises NotReadError where the file does not say
    which number is white."""
    mode, format_ = image.mode, image.format
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if mode in HIGH_BYTES and tags.get(BITS, (16,))[0] == 16:
        grey = Image.frombytes("L", image.size, image.tobytes()[HIGH_BYTES[mode]])
        return ImageOps.invert(grey) if tags.get(PHOTOMETRIC) == 0 else grey
    if mode == "I" and format_ in ("PPM", "PNG"):
        return Image.frombytes("L", image.size, image.tobytes()[HIGH_BYTE_OF_32])
    if mode in WITHOUT_ALPHA:
        return image.convert(WITHOUT_ALPHA[mode])
    if mode not in CONVERTIBLE:
        raise NotReadError(f"its pixels are of a kind that has no fixed white (mode {mode}); save it with 8 or 16 bits")
    return image


def _bands(image: Image.Image) -> Iterator[bytes]:
    """RGB bytes, some rows at a time, so that a large picture is held once."""
    rows = max(1, BAND_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        yield band.convert("RGB").tobytes()


def _too_large(pixels: int | str, max_pixels: int) -> str:
    return f"{pixels} pixels, data.max_pixels={max_pixels}"


def _reason(error: Exception, memory: int) -> str:
    if isinstance(error, NotReadError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture that can be read (damaged, or none of {NAMES})"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        found = re.search(r"\((\d+) pixels\)", str(error))
        return _too_large(found[1] if found else "too many", Image.MAX_IMAGE_PIXELS or 0)
    if isinstance(error, MemoryError):
        return f"decoding takes more than {memory >> 20} MB of memory"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened ({error.strerror})"
    told = " ".join(str(error).split()) or type(error).__name__
    return f"not a picture that can be read ({told[:200]})"


if __name__ == "__main__":
    main()
