"""Importance of settings: shares of the variance, slices, parallel coordinates."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from toconv.analysis.records import TrialRecord
from toconv.report.content import Content
from toconv.report.front_data import TOKENS
from toconv.report.page.csv_files import csv_link, of_trials
from toconv.report.page.fronts import reading
from toconv.report.page.html import Html, panels, row, table
from toconv.report.page.svg import Scale, Tick, around, drawing, frame, point, series_legend, series_mark
from toconv.settings import GRID_SIZE, SEED
from toconv.sweep.search.importances import MOST

SIDE = 260  # of a slice
AXIS_GAP, TOP, BOTTOM = 128, 44.0, 324.0  # of parallel coordinates
MOST_TICKS = 8  # whole numbers up to so many are all marked
ORDER = ("other", "front", "recommended")  # in which parallel coordinates are drawn


def importance(content: Content) -> str:
    parts = [_importances(content)]
    settings = [key for key in content.sweep.searched() if key not in (GRID_SIZE, SEED) and _varies(content, key)]
    if settings:
        parts += [
            "<h3>Slices</h3><p>Each setting against each objective, one mark for a complete trial, its shape for "
            "its tokens. The numbers are those of <a href=#rows>every row</a>.</p>",
            _slices(content, settings),
        ]
    if len(content.complete) > 1:
        parts += [
            "<h3>Parallel coordinates</h3><p>A line for each complete trial, from its settings to its "
            "objectives: thick the recommended ones, solid the front, dashed the rest.</p>",
            _parallel(content),
        ]
    return "".join(parts)


def _varies(content: Content, key: str) -> bool:
    return len({repr(r.params.get(key)) for r in content.complete}) > 1


def _objectives(content: Content) -> list[str]:
    return [name for name in content.sweep.file.objectives if name != TOKENS]


def _importances(content: Content) -> str:
    title = "<h3>Importances</h3>"
    if not content.importances:
        return title + "<p>None: they need four complete trials in a cell, and a setting that is searched.</p>"
    heads = ["cell", "setting", f"share of the variance of {next(iter(content.sweep.file.objectives))}", "bar"]
    found = [
        (name, setting, share) for name, shares in content.importances.items() for setting, share in shares.items()
    ]
    bars = [Html(f'<span class=share style="--share:{share:.4f}"></span>') for _, _, share in found]
    rows = [row([*of, bar], heads) for of, bar in zip(found, bars, strict=True)]
    link = csv_link("importances", heads[:-1], found)
    return (
        f"{title}<p>Share of the variance between a cell’s trials that each searched setting explains (fANOVA). "
        f"With few trials a hint, no finding. Of more than {MOST} trials of a cell, {MOST} drawn at random are looked "
        "at.</p>" + table(heads, rows, "Importances", "fixed") + f"<p class=data>{link}</p>"
    )


def _slices(content: Content, settings: Sequence[str]) -> str:
    groups = []
    for name in _objectives(content):
        figures = (f"<figure>{_slice(content, key, name)}</figure>" for key in settings)
        groups.append(panels(figures, of_trials(f"slices_{name}", content.complete, settings, [name])))
    return series_legend(content.sizes) + "".join(groups)


def _slice(content: Content, key: str, objective: str) -> str:
    trials = [r for r in content.complete if key in r.params]
    x, ticks, place = _axis(content, key, [r.params[key] for r in trials], 48, SIDE - 8)
    y = around([r.values[objective] for r in trials], SIDE - 46, 30)
    name = key.rsplit(".", 1)[-1]
    parts = [frame(x, y, ticks, name + (", log scale" if x.log else ""), objective)]
    for r in trials:
        mark, first = series_mark(content.sizes.index(r.tokens)), content.standing(r) == "recommended"
        at = place(r.params[key]), y(r.values[objective])
        parts.append(point(*at, *mark, reading(r), first=first, trial=r.trial_id))
    return drawing(SIDE, SIDE, "".join(parts), f"{objective} against {key}, {len(trials)} trials", "plot panel")


def _axis(
    content: Content, key: str, values: Sequence[Any], start: float, end: float
) -> tuple[Scale, list[Tick], Callable[[Any], float]]:
    """Scale, ticks and value → position: by size where all are numbers, else side by side."""
    searched, grid = content.sweep.file.search.get(key), content.sweep.file.grid
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if numeric and not (key in grid or (searched and searched.choices)):
        scale = around(values, start, end, log=bool(searched and searched.log))
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
    drawn = sorted(((content.standing(r), r) for r in content.complete), key=lambda pair: ORDER.index(pair[0]))
    points = [[place(r.params.get(name, r.values.get(name))) for name, place in places.items()] for _, r in drawn]
    strands = [_strand(r, standing, at) for (standing, r), at in zip(drawn, points, strict=True)]
    title = f"Parallel coordinates of {len(drawn)} trials"
    width = AXIS_GAP * (len(axes) - 1) + 150
    svg = drawing(width, BOTTOM + 12, "".join(strands + rulers), title, "plot parallel")
    link = of_trials("parallel_coordinates", content.complete, settings, _objectives(content))
    framed = f'<figure class=scroll tabindex=0 role=region aria-label="Parallel coordinates">{svg}</figure>'
    return f"<div class=plots>{framed}<p class=data>{link}</p></div>"


def _ruler(content: Content, name: str, x: float) -> tuple[str, Callable[[Any], tuple[float, float]]]:
    """An axis at x, and value → its point there; a setting that a trial does not have lies at the axis's foot."""
    values = [v for r in content.complete if (v := r.params.get(name, r.values.get(name))) is not None]
    _, ticks, place = _axis(content, name, values, BOTTOM - 20, TOP)
    label = "k" if name == GRID_SIZE else name.rsplit(".", 1)[-1]
    parts = [
        f'<path class=axis d="M{x} {TOP - 6}V{BOTTOM}"/>'
        f"<text class=name x={x} y=20 text-anchor=middle>{escape(label)}</text>"
    ]
    parts += [
        f'<text class="tick label" x={x - 7} y={y:.1f} dy=.32em text-anchor=end>{escape(text)}</text>'
        for y, text in ticks
    ]
    return "".join(parts), lambda value: (x, BOTTOM if value is None else place(value))


def _strand(record: TrialRecord, standing: str, points: Sequence[tuple[float, float]]) -> str:
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    return (
        f'<g class="point strand {standing}" tabindex={0 if standing == "recommended" else -1} role=img '
        f'data-trial="{escape(record.trial_id)}"><title>{escape(reading(record))}</title>'
        f'<path class=reach d="M{path}"/><path class=line d="M{path}"/></g>'
    )
