"""What mattered: importances, slices, parallel coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from toconv.sweep.page.content import Content
from toconv.sweep.page.fronts import reading
from toconv.sweep.page.html import row, section, table
from toconv.sweep.page.svg import SERIES, Scale, Tick, around, drawing, frame, legend, point
from toconv.sweep.records import TrialRecord
from toconv.sweep.spec import GRID_SIZE
from toconv.sweep.twins import SEED

SIDE = 260  # of a slice
AXIS_GAP, TOP, BOTTOM = 128, 44.0, 324.0  # of parallel coordinates
MOST_TICKS = 8  # whole numbers up to so many are all marked


def what_mattered(content: Content) -> str:
    parts = [_importances(content)]
    settings = [key for key in content.sweep.searched() if key not in (GRID_SIZE, SEED) and _varies(content, key)]
    if settings:
        parts += ["<h3>Slices</h3><p>Each setting against each objective, one mark for a complete trial, its shape for "
                  "its tokens. The numbers are those of <a href=#rows>every row</a>.</p>", _slices(content, settings)]
    if len(content.complete) > 1:
        parts += ["<h3>Parallel coordinates</h3><p>A line for each complete trial, from its settings to its "
                  "objectives: thick the recommended ones, solid the front, dashed the rest.</p>", _parallel(content)]
    return section("mattered", "What mattered", "".join(parts))


def _varies(content: Content, key: str) -> bool:
    return len({repr(r.params.get(key)) for r in content.complete}) > 1


def _objectives(content: Content) -> list[str]:
    return [name for name in content.sweep.file.objectives if name != "tokens"]


def _importances(content: Content) -> str:
    title = "<h3>Importances</h3>"
    if not content.importances:
        return title + ("<p>None: they need four complete trials in a cell, and a setting that is searched.</p>")
    heads = ["cell", "setting", f"share of the variance of {next(iter(content.sweep.file.objectives))}", "bar"]
    rows = []
    for name, shares in content.importances.items():
        for setting, share in shares.items():
            width = f'<td class=share aria-hidden=true><span style="--share:{share:.4f}"></span></td>'
            rows.append(row([name, setting, share], heads[:3]).replace("</tr>", f"{width}</tr>"))
    return (f"{title}<p>Share of the variance between a cell’s trials that each searched setting explains (fANOVA). "
            f"With few trials a hint, no finding.</p>" + table(heads, rows, "Importances", "fixed"))


def _slices(content: Content, settings: Sequence[str]) -> str:
    plots = ["".join(f"<figure>{_slice(content, key, objective)}</figure>" for key in settings)
             for objective in _objectives(content)]
    entries = [(SERIES[i % len(SERIES)], f"series s{i % len(SERIES)}", f"{n} tokens")
               for i, n in enumerate(content.sizes)]
    return legend(entries) + "".join(f"<div class=panels>{row}</div>" for row in plots)


def _slice(content: Content, key: str, objective: str) -> str:
    trials = [r for r in content.complete if key in r.params]
    x, ticks, place = _axis(content, key, [r.params[key] for r in trials], 48, SIDE - 8)
    y = around([r.values[objective] for r in trials], SIDE - 46, 30)
    name = key.rsplit(".", 1)[-1]
    parts = [frame(x, y, ticks, name + (", log scale" if x.log else ""), objective)]
    for r in trials:
        series = content.sizes.index(r.tokens) % len(SERIES)
        parts.append(point(place(r.params[key]), y(r.values[objective]), SERIES[series], f"series s{series}",
                           reading(r), first=r in content.recommended.values(), trial=r.trial_id))
    return drawing(SIDE, SIDE, "".join(parts), f"{objective} against {key}, {len(trials)} trials", "plot panel")


def _axis(content: Content, key: str, values: Sequence[Any], start: float, end: float
          ) -> tuple[Scale, list[Tick], Callable[[Any], float]]:
    """Scale, ticks and value → position: by size where all are numbers, else side by side."""
    asked, grid = content.sweep.file.search.get(key), content.sweep.file.grid
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numeric and not (key in grid or asked and asked.choices):
        scale = around(values, start, end, log=bool(asked and asked.log))
        few = len(set(values)) <= MOST_TICKS and all(isinstance(v, int) for v in values)
        return scale, [(scale(v), str(v)) for v in sorted(set(values))] if few else scale.ticks(4), scale
    order = list(map(str, sorted(set(values)) if numeric else sorted(set(map(str, values)))))
    scale = Scale(-0.6, len(order) - 0.4, start, end)
    return scale, [(scale(i), text) for i, text in enumerate(order)], lambda v: scale(order.index(str(v)))


def _parallel(content: Content) -> str:
    settings = [key for key in content.sweep.searched() if key != SEED and _varies(content, key)]
    axes = [*settings, *_objectives(content)]
    rulers, places = [], {}
    for number, name in enumerate(axes):
        ruler, places[name] = _ruler(content, name, 60 + number * AXIS_GAP)
        rulers.append(ruler)
    order = {"other": 0, "on-front": 1, "recommended": 2}
    drawn = sorted(((_style(content, r), r) for r in content.complete), key=lambda item: order[item[0]])
    strands = [_strand(r, style, [place(r.params.get(name, r.values.get(name))) for name, place in places.items()])
               for style, r in drawn]
    svg = drawing(AXIS_GAP * (len(axes) - 1) + 150, BOTTOM + 12, "".join(strands + rulers),
                  f"Parallel coordinates of {len(drawn)} trials", "plot parallel")
    return f'<figure class=scroll tabindex=0 role=region aria-label="Parallel coordinates">{svg}</figure>'


def _ruler(content: Content, name: str, x: float) -> tuple[str, Callable[[Any], tuple[float, float]]]:
    """An axis at x, and value → its point there; a setting that a trial does not have lies at the axis's foot."""
    values = [v for r in content.complete if (v := r.params.get(name, r.values.get(name))) is not None]
    _, ticks, place = _axis(content, name, values, BOTTOM - 20, TOP)
    label = "k" if name == GRID_SIZE else name.rsplit(".", 1)[-1]
    parts = [f'<path class=axis d="M{x} {TOP - 6}V{BOTTOM}"/>'
             f'<text class=name x={x} y=20 text-anchor=middle>{escape(label)}</text>']
    parts += [f'<text class="tick label" x={x - 7} y={y:.1f} dy=.32em text-anchor=end>{escape(text)}</text>'
              for y, text in ticks]
    return "".join(parts), lambda value: (x, BOTTOM if value is None else place(value))


def _strand(record: TrialRecord, style: str, points: Sequence[tuple[float, float]]) -> str:
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    return (f'<g class="point strand {style}" tabindex={0 if style == "recommended" else -1} role=img '
            f'data-trial="{escape(record.trial_id)}"><title>{escape(reading(record))}</title>'
            f'<path class=reach d="M{path}"/><path class=line d="M{path}"/></g>')


def _style(content: Content, record: TrialRecord) -> str:
    if record in content.recommended.values():
        return "recommended"
    return "on-front" if record in content.front else "other"
