"""Picture files made by hand: those that Pillow does not write, and those that nobody should."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

FORMATS = {  # suffix: how Pillow writes it
    ".jpg": {"format": "JPEG"},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP"},
    ".gif": {"format": "GIF"},
    ".bmp": {"format": "BMP"},
    ".tif": {"format": "TIFF", "compression": "tiff_lzw"},
    ".avif": {"format": "AVIF"},
    ".jp2": {"format": "JPEG2000"},
    ".ppm": {"format": "PPM"},
    ".ico": {"format": "ICO", "sizes": [(32, 32)]},
}


def photograph(width=48, height=36):
    """No two neighbours equal, and no symmetry."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([5 * x, 7 * y, 3 * (x + y)], -1).astype(np.uint8))


def encoded(image, **options):
    content = io.BytesIO()
    image.save(content, **options)
    return content.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, bits, colour, rows, *extra):
    """A PNG of that header whatever its rows are; `colour` is 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def png16(values, colour):
    """(H, W) or (H, W, C) uint16 → a PNG of 16 bits."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour, rows)


def flipped(content, place, bit=0):
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def jpeg_that_claims(side):
    content = encoded(photograph(), format="JPEG")
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", side, side) + content[at + 4 :]
