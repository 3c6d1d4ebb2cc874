"""The error maps on the page."""

import base64
import io
from html import escape
from typing import Any

import numpy as np
from matplotlib.image import imsave

from toconv.report.content import Content
from toconv.report.error_maps import ErrorMaps, PictureErrorMaps
from toconv.report.page.html import details, paragraphs, row, table

COLOURS = "magma"  # its lightness rises all the way: it reads in grey too
STEPS = 64  # of the colour scale


def error_maps(content: Content) -> str:
    maps = content.error_maps
    absent = paragraphs((f"Not shown: {reason}." for reason in maps.absent), "absent")
    if not maps.pictures:
        return absent or "<p>No maps.</p>"
    note = (
        "<p>Validation pictures, and for each of their tokens the squared error after compression and back, over "
        "the picture’s variance. The mean of a map is the picture’s distortion. One colour scale for all; average "
        "pooling on the left, the recommended compressor on the right.</p>"
    )
    drawn = "".join(_picture(picture, maps.most) for picture in maps.pictures)
    numbers = details("The numbers of these maps", _numbers(maps))
    return note + _scale(maps.most) + drawn + numbers + absent


def data_url(image: np.ndarray, kind: str, **how: Any) -> str:
    """An (H, W, 3) picture or an (H, W) map as a data: URL."""
    content = io.BytesIO()
    imsave(content, image, format=kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _scale(most: float) -> str:
    bar = data_url(np.linspace(0, 1, STEPS)[None], "png", cmap=COLOURS)
    return f'<p class=scale><span>0</span><img src="{bar}" alt="from dark to light"><span>{most:.2g} or more</span></p>'


def _picture(maps: PictureErrorMaps, most: float) -> str:
    photograph = data_url(maps.image_HW3, "jpeg", pil_kwargs={"quality": 82})
    pairs = []
    for tokens in maps.pooled:
        pair = "".join(_map(kind, tokens, values[tokens], most, maps.name) for kind, values in maps.kinds.items())
        pairs.append(f"<div><h4>{tokens} tokens</h4><div class=pair>{pair}</div></div>")
    name = escape(maps.name)
    return (
        f'<div class=maps><figure><img src="{photograph}" alt="{name}"><figcaption>{name}</figcaption></figure>'
        f"<div class=pairs>{''.join(pairs)}</div></div>"
    )


def _map(kind: str, tokens: int, values_gg: np.ndarray, most: float, name: str) -> str:
    url = data_url(values_gg, "png", cmap=COLOURS, vmin=0, vmax=most)
    mean = values_gg.mean()
    words = f"{kind}, {tokens} tokens, {escape(name)}: mean {mean:.3f}, highest {values_gg.max():.3f}"
    return f'<figure><img class=map src="{url}" alt="{words}"><figcaption>{kind} {mean:.3f}</figcaption></figure>'


def _numbers(maps: ErrorMaps) -> str:
    heads = ["picture", "tokens", "pooled, mean", "pooled, highest", "best, mean", "best, highest"]
    rows = []
    for p in maps.pictures:
        for n in p.pooled:
            numbers = (float(f(values[n])) for values in p.kinds.values() for f in (np.mean, np.max))
            rows.append(row([p.name, n, *numbers], heads))
    return table(heads, rows, "Share of a picture’s variance that is lost")
