"""`python docs/draw_layers.py` draws docs/layers.svg: the layers of toconv, their modules, and who imports from whom;
and it writes docs/files.md, the list of all files.

All of it is read from the code, by what tests/test_architecture.py checks it with.
"""

from __future__ import annotations

import ast
import colorsys
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs import list_files
from tests.architecture import LAYERS, PACKAGE, VERSION, between_layers, layers_of, module_of, modules

PICTURE = Path(__file__).with_name("layers.svg")
SAID = {  # of the layers that have no folder, whose docstring says it
    "ground": "What all others stand on: settings, errors, paths, the grid, the machine.",
    "__main__": "The command toconv, which loads one of commands by its name.",
}
MARGIN, LEFT, LANE, TOP = 16, 730, 27, 72  # pixels: around, of the bands, from line to line, above the first band
ROW, CHIP, LETTER = 24, 18, 6.65  # pixels: from row to row, a module's height, a letter's width
INK, GREY = "#1f2430", "#5c6370"


def colour(layer: str, lightness: float, saturation: float) -> str:
    """One hue a layer; the ground is grey."""
    hue = LAYERS.index(layer) * 0.618 % 1
    parts = colorsys.hls_to_rgb(hue, lightness, 0.06 if layer == "ground" else saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


@cache
def folders() -> dict[str, dict[str, list[str]]]:
    """{layer: {folder below the layer's, "" for its own: names of modules}}."""
    found = {layer: defaultdict(list) for layer in LAYERS}
    layers = layers_of(PACKAGE)
    for name, path in modules(PACKAGE).items():
        if name == PACKAGE.name:
            found[layers[name]][""].append("toconv.load")
        elif layers[name] and path.name != "__init__.py":
            found[layers[name]]["/".join(path.relative_to(PACKAGE).parent.parts[1:])].append(path.stem)
    return {layer: dict(sorted(below.items())) for layer, below in found.items()}


def said(layer: str) -> str:
    """What a layer is, in a sentence."""
    path = PACKAGE / layer / "__init__.py"
    text = SAID.get(layer) or ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition(". ")[0].removesuffix(".")


def rows_of(layer: str) -> list[list[tuple[str, float, bool]]]:
    """Rows of (text, width, whether it names a folder), folders each on rows of their own."""
    rows = []
    for folder, names in folders()[layer].items():
        row = [(f"{folder}/", LETTER * (len(folder) + 1) + 2, True)] if folder else []
        for name in names:
            width = LETTER * len(name) + 12
            if sum(w + 6 for _, w, _ in row) + width > LEFT - 2 * MARGIN:
                rows.append(row)
                row = []
            row.append((name, width, False))
        rows.append(row)
    return rows


def counts() -> Counter[tuple[str, str]]:
    """{(layer, layer that it imports from): pairs of a file and a file that it imports}."""
    known = modules(PACKAGE)
    pairs = {
        (of, layer, found.importer, found.target if found.target == VERSION else module_of(found.target, known))
        for found, of, layer in between_layers(PACKAGE)
        if of != layer
    }
    return Counter((of, layer) for of, layer, *_ in pairs)


def text(x: float, y: float, words: str, **attributes: object) -> str:
    told = "".join(f' {name.rstrip("_").replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:g}" y="{y:g}"{told}>{escape(words)}</text>'


def band(layer: str, top: float, height: float, width: float) -> Iterator[str]:
    """A layer with its modules."""
    tint, edge = colour(layer, 0.955, 0.6), colour(layer, 0.78, 0.4)
    yield f'<rect x="{MARGIN}" y="{top}" width="{width}" height="{height}" rx="6" fill="{tint}"/>'
    x, y = MARGIN + 12, top + 19
    yield text(x, y, layer, font_weight="bold", font_size=14, fill=colour(layer, 0.3, 0.55))
    yield text(x + 108, y, said(layer), font_size=11.5, fill=GREY)
    for row in rows_of(layer):
        x, y = MARGIN + 12, y + ROW
        for word, wide, is_folder in row:
            if not is_folder:
                place = f'x="{x:g}" y="{y - 13:g}" width="{wide:g}" height="{CHIP}"'
                yield f'<rect {place} rx="4" fill="#fff" stroke="{edge}"/>'
            yield text(x + (0 if is_folder else 6), y, word, class_="m", fill=GREY if is_folder else INK)
            x += wide + 6


def lane(layer: str, x: float, middle: dict[str, float], found: Counter[tuple[str, str]]) -> Iterator[str]:
    """A line from a layer down to each that it imports from."""
    below = {other: found[layer, other] for other in LAYERS if found[layer, other]}
    if not below:
        return
    line, end = colour(layer, 0.42, 0.5), max(middle[other] for other in below)
    yield f'<path d="M{x:g} {middle[layer]:g}V{end:g}" stroke="{line}" stroke-width="2"/>'
    yield f'<circle cx="{x:g}" cy="{middle[layer]:g}" r="5" fill="{line}"/>'
    for other, count in below.items():
        y, radius = middle[other], 8 + min(count, 40) ** 0.5 * 0.75
        tip = y - radius - 1
        yield f'<path d="M{x:g} {tip:g}l-4.5 -8h9z" fill="{line}"/>'
        yield f'<circle cx="{x:g}" cy="{y:g}" r="{radius:.1f}" fill="#fff" stroke="{line}" stroke-width="1.6"/>'
        yield text(x, y + 3.7, str(count), text_anchor="middle", font_size=10.5, fill=INK)


def draw() -> str:
    """The picture, as SVG."""
    found = counts()
    width = LEFT + LANE * (len(LAYERS) - 1) + 14
    parts, middle, top = [], {}, TOP
    for layer in reversed(LAYERS):
        height = ROW * (len(rows_of(layer)) + 1) + 8
        parts += band(layer, top, height, width)
        middle[layer], top = top + height / 2, top + height + 6
    for number, layer in enumerate(LAYERS[1:]):
        parts += lane(layer, MARGIN + LEFT + LANE * number + LANE / 2, middle, found)
    size = f"{width + 2 * MARGIN} {top + MARGIN - 6}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="Helvetica, Arial, sans-serif"'
        ' font-size="12">',
        "<style>.m{font:11px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}</style>",
        '<rect width="100%" height="100%" rx="8" fill="#fff"/>',
        text(MARGIN, 30, "The layers of toconv", font_size=18, font_weight="bold", fill=INK),
        text(
            MARGIN,
            52,
            "A module imports from its own layer and from those below it. A line goes from a layer down to each that "
            "it imports from; the number counts the pairs of files.",
            fill=GREY,
        ),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(draw())
    list_files.PAGE.write_text(list_files.listed())
