"""Heat maps of where information is lost, on the page."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from matplotlib.image import imsave

from toconv.sweep.lost import LossMaps, Lost
from toconv.sweep.page.content import Content
from toconv.sweep.page.html import details, paragraphs, row, section, table

COLOURS = "magma"  # its lightness rises all the way: it reads in grey too
STEPS = 64  # of the colour scale


def where_it_is_lost(content: Content) -> str:
    lost = content.lost
    absent = paragraphs((f"Not shown: {reason}." for reason in lost.absent), "absent")
    if not lost.pictures:
        return section("lost", "Where information is lost", absent or "<p>No maps.</p>")
    note = ("<p>Validation pictures, and for each of their tokens the squared error after compression and back, over "
            "the picture’s variance. The mean of a map is the picture’s distortion. One colour scale for all; average "
            "pooling on the left, the recommended compressor on the right.</p>")
    return section("lost", "Where information is lost", note + _scale(lost)
                   + "".join(_picture(p, lost.most) for p in lost.pictures)
                   + details("The numbers of these maps", _numbers(lost)) + absent)


def data_url(image: np.ndarray, kind: str, **how: object) -> str:
    """An (H, W, 3) picture or an (H, W) map as a data: URL."""
    content = io.BytesIO()
    imsave(content, image, format=kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _scale(lost: Lost) -> str:
    bar = data_url(np.linspace(0, 1, STEPS)[None], "png", cmap=COLOURS)
    return (f'<p class=scale><span>0</span><img src="{bar}" alt="from dark to light"><span>{lost.most:.2g} and more'
            f"</span></p>")


def _picture(maps: LossMaps, most: float) -> str:
    photograph = data_url(maps.image_HW3, "jpeg", pil_kwargs={"quality": 82})
    pairs = []
    for tokens in maps.pooled:
        pair = "".join(_map(kind, tokens, values[tokens], most, maps.name)
                       for kind, values in (("pooled", maps.pooled), ("best", maps.best)))
        pairs.append(f"<div><h4>{tokens} tokens</h4><div class=pair>{pair}</div></div>")
    name = escape(maps.name)
    return (f'<div class=maps><figure><img src="{photograph}" alt="{name}"><figcaption>{name}</figcaption></figure>'
            f"<div class=pairs>{''.join(pairs)}</div></div>")


def _map(kind: str, tokens: int, values_gg: np.ndarray, most: float, name: str) -> str:
    url = data_url(values_gg, "png", cmap=COLOURS, vmin=0, vmax=most)
    mean = values_gg.mean()
    words = f"{kind}, {tokens} tokens, {escape(name)}: mean {mean:.3f}, highest {values_gg.max():.3f}"
    return f'<figure><img class=map src="{url}" alt="{words}"><figcaption>{kind} {mean:.3f}</figcaption></figure>'


def _numbers(lost: Lost) -> str:
    heads = ["picture", "tokens", "pooled, mean", "pooled, highest", "best, mean", "best, highest"]
    rows = [row([p.name, n, *(float(f(maps[n])) for maps in (p.pooled, p.best) for f in (np.mean, np.max))], heads)
            for p in lost.pictures for n in p.pooled]
    return table(heads, rows, "Share of a picture’s variance that is lost")
