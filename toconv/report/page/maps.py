"""The error maps on the page."""

import base64
import io
from html import escape
from typing import Any

import numpy as np
from matplotlib.image import imsave

from toconv.report.content import Content
from toconv.report.error_maps import ErrorMaps, PictureErrorMaps
from toconv.report.page.csv_files import of_maps
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
    drawn = "".join(_picture(content, picture, number) for number, picture in enumerate(maps.pictures, 1))
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


def _picture(content: Content, maps: PictureErrorMaps, number: int) -> str:
    photograph, name = data_url(maps.image_HW3, "jpeg", pil_kwargs={"quality": 82}), escape(maps.name)
    pairs = []
    for tokens in maps.pooled:
        pair = ""
        for kind, values in maps.kinds.items():
            words, caption = f"{kind}, {tokens} tokens, {maps.name}", f"{kind} {values[tokens].mean():.3f}"
            trial = content.recommended[tokens].trial_id if values is maps.best else ""
            image = map_image(values[tokens], content.error_maps.most, words, trial, maps.name)
            pair += f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
        pairs.append(f"<div><h3>{tokens} tokens</h3><div class=pair>{pair}</div></div>")
    return (
        f'<div class=maps><figure><img src="{photograph}" alt="{name}" data-photograph="{name}"><figcaption>{name} '
        f"{of_maps(f'error_maps_{number}', maps)}</figcaption></figure><div class=pairs>{''.join(pairs)}</div></div>"
    )


def map_image(values_gg: np.ndarray, most: float, words: str, trial_id: str, picture: str) -> str:
    """`trial_id` and `picture` are how side_by_side.js finds it; "" of what is no trial's."""
    url, mean = data_url(values_gg, "png", cmap=COLOURS, vmin=0, vmax=most), values_gg.mean()
    found = f' data-trial="{escape(trial_id)}" data-picture="{escape(picture)}"' if trial_id else ""
    text = escape(f"{words}: mean {mean:.3f}, highest {values_gg.max():.3f}")
    return f'<img class=map src="{url}" alt="{text}" data-mean="{mean:.3f}"{found}>'


def _numbers(maps: ErrorMaps) -> str:
    heads = ["picture", "tokens", "pooled, mean", "pooled, highest", "best, mean", "best, highest"]
    rows = []
    for p in maps.pictures:
        for n in p.pooled:
            numbers = (float(f(values[n])) for values in p.kinds.values() for f in (np.mean, np.max))
            rows.append(row([p.name, n, *numbers], heads))
    return table(heads, rows, "Share of a picture’s variance that is lost")
