"""Plots as inline SVG. They have no colours of their own: classes, which page.css gives colours, dashes and sizes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Tick = tuple[float, str]  # position, label
STEPS = (1, 2, 5, 10)
SHAPES = {  # paths around (0, 0) that look equally large
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
    "up": "M0-4.8L4.6 3.4H-4.6z",
    "down": "M0 4.8L4.6-3.4H-4.6z",
    "diamond": "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "hexagon": "M0-4.9L4.3-2.4V2.4L0 4.9L-4.3 2.4V-2.4z",
    "plus": "M-1.4-4.6h2.8v3.2h3.2v2.8h-3.2v3.2h-2.8v-3.2h-3.2v-2.8h3.2z",
    "cross": "M-4.4-2.6L-2.6-4.4L0-1.8L2.6-4.4L4.4-2.6L1.8 0L4.4 2.6L2.6 4.4L0 1.8L-2.6 4.4L-4.4 2.6L-1.8 0z",
    "star": "M0-6.4L1.8-2.2L6.2-2L2.8.9L4 5.3L0 2.8L-4 5.3L-2.8.9L-6.2-2L-1.8-2.2z",
}
SERIES = ("circle", "square", "up", "diamond", "down", "plus", "cross")  # of series that are numbered


@dataclass(frozen=True)
class Scale:
    """Numbers → positions along one side of a plot."""

    low: float
    high: float
    start: float  # where `low` lies
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[Tick]:
        values = _log_ticks(self.low, self.high) if self.log else _round_values(self.low, self.high, count)
        if self.log and len(values) < 2:
            values = _round_values(self.low, self.high, count)
        return [(self(v), label) for v, label in zip(values, _labels(values), strict=True)]


def around(values: Iterable[float], start: float, end: float, log: bool = False) -> Scale:
    """A scale that holds all values, with a margin."""
    found = list(values)
    low, high = (math.log(v) if log else v for v in (min(found), max(found)))
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = low - margin, high + margin
    return Scale(math.exp(low) if log else low, math.exp(high) if log else high, start, end, log)


def _round_values(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high], about `count`."""
    rough = (high - low) / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in STEPS if s * power >= rough * 0.999)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 2 else (1, 2, 5)
    return [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]


def _labels(values: Sequence[float]) -> list[str]:
    steps = [abs(b - a) for a, b in pairwise(values)]
    if steps and min(steps) > 0 and max(steps) < 1.001 * min(steps) and 1e-4 <= min(steps) < 1e4:
        decimals = max(0, -math.floor(math.log10(min(steps)) + 1e-9))
        return [f"{v:.{decimals}f}" for v in values]
    return [f"{v:g}" for v in values]


def frame(x: Scale, y: Scale, x_ticks: Sequence[Tick], x_name: str, y_name: str) -> str:
    """Grid lines, tick labels and the names of both axes; that of y lies above the plot."""
    parts = []
    for position, label in y.ticks():
        parts.append(
            f'<path class=grid d="M{x.start:.1f} {position:.1f}H{x.end:.1f}"/>'
            f"<text class=tick x={x.start - 7:.1f} y={position:.1f} dy=.32em text-anchor=end>{label}</text>"
        )
    last = -math.inf
    for position, label in x_ticks:
        parts.append(f'<path class=axis d="M{position:.1f} {y.start:.1f}v5"/>')
        if position - last > 6 + 8 * len(label):  # leave out labels that would lie on each other
            parts.append(
                f"<text class=tick x={position:.1f} y={y.start + 8:.1f} dy=.9em text-anchor=middle>"
                f"{escape(label)}</text>"
            )
            last = position
    parts.append(
        f'<path class=axis d="M{x.start:.1f} {y.start:.1f}H{x.end:.1f}"/>'
        f"<text class=name x={(x.start + x.end) / 2:.1f} y={y.start + 24:.1f} dy=.9em text-anchor=middle>"
        f"{escape(x_name)}</text>"
        f"<text class=name x=4 y={y.end - 12:.1f}>{escape(y_name)}</text>"
    )
    return "".join(parts)


def line(points: Iterable[tuple[float, float]], style: str) -> str:
    return f'<polyline class="line {style}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'


def clipped(x: Scale, y: Scale, body: str) -> str:
    """`body` as far as it lies within the frame."""
    box = f"{x.start:g} {y.end:g} {x.end - x.start:g} {y.start - y.end:g}".split()
    return f'<svg x={box[0]} y={box[1]} width={box[2]} height={box[3]} viewBox="{" ".join(box)}">{body}</svg>'


def bar(a: tuple[float, float], b: tuple[float, float], style: str) -> str:
    """An interval from a to b, along x or along y, with caps."""
    cap = "m-4 0h8" if a[0] == b[0] else "m0-4v8"
    return (
        f'<path class="bar {style}" d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}{cap}M{a[0]:.1f} {a[1]:.1f}{cap}"/>'
    )


def point(x: float, y: float, shape: str, style: str, reading: str, first: bool = False, **data: object) -> str:
    """A mark that is pointed at or tabbed to (`first`; the others by arrow keys) for its reading."""
    facts = "".join(f' data-{key}="{escape(str(value))}"' for key, value in data.items())
    return (
        f'<g class="point {style}" transform="translate({x:.1f} {y:.1f})" tabindex={0 if first else -1} role=img'
        f'{facts}><title>{escape(reading)}</title><circle class=reach r=9 /><path class=mark d="{SHAPES[shape]}"/>'
        "</g>"
    )


Label = tuple[float, str, str, str]  # y, text, shape, style


def end_labels(entries: Sequence[Label], x: float, gap: float, most: float) -> str:
    """Labels with their marks beside the ends of lines, as near as `gap` between two allows, none below `most`."""
    entries = sorted(entries)
    places = spread([entry[0] for entry in entries], gap)
    over = max(0.0, places[-1] - most) if places else 0.0
    return "".join(
        f'<g class="end {style}" transform="translate({x:.1f} {y - over:.1f})"><path class=mark d="{SHAPES[shape]}"/>'
        f"<text class=label x=9 dy=.32em>{escape(text)}</text></g>"
        for y, (_, text, shape, style) in zip(places, entries, strict=True)
    )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The least squares nearest places to rising values, at least `gap` apart (pool adjacent violators)."""
    groups: list[tuple[float, int]] = []  # (mean of value − number · gap, how many)
    for number, value in enumerate(values):
        mean, count = value - number * gap, 1
        while groups and groups[-1][0] > mean:
            before, more = groups.pop()
            mean, count = (mean * count + before * more) / (count + more), count + more
        groups.append((mean, count))
    return [mean + number * gap for number, mean in enumerate(m for m, count in groups for _ in range(count))]


def drawing(width: float, height: float, body: str, title: str, style: str = "") -> str:
    """`title` is what is read out in the figure's place."""
    return (
        f'<svg class="{style}" viewBox="0 0 {width:g} {height:g}" role=group aria-label="{escape(title)}">{body}</svg>'
    )


def legend(entries: Iterable[tuple[str, str, str]]) -> str:
    """(shape, style, text) each; shape `line` is a stroke."""
    items = []
    for shape, style, text in entries:
        stroke = f'<path class="line {style}" d="M-11 0H11"/>'
        mark = stroke if shape == "line" else f'<g class="point {style}"><path class=mark d="{SHAPES[shape]}"/></g>'
        items.append(f'<li><svg viewBox="-12 -8 24 16" aria-hidden=true>{mark}</svg>{escape(text)}</li>')
    return f"<ul class=legend>{''.join(items)}</ul>"


def series_mark(number: int) -> tuple[str, str]:
    """Shape and style of a series that is numbered."""
    number %= len(SERIES)
    return SERIES[number], f"s{number}"


def series_legend(sizes: Sequence[int]) -> str:
    """A series for each number of tokens."""
    return legend((*series_mark(number), f"{tokens} tokens") for number, tokens in enumerate(sizes))
