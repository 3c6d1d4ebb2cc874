"""Two trials side by side, as side_by_side.js shows them: what of each the page holds for that."""

import json
from collections.abc import Sequence

from toconv.analysis.records import Kind, TrialRecord
from toconv.analysis.results import FIRST, other_metrics
from toconv.evaluation.metrics import DIAGNOSTICS
from toconv.report.content import Content
from toconv.report.page.maps import map_image
from toconv.report.page.svg import legend, series_mark
from toconv.report.page.trainings import HELD_OUT
from toconv.training.epochs import Epoch

MOST_POINTS = 60  # of a curve
DIGITS = 6  # of its values
TELLING = ("kind", "state", "tokens")  # columns of every row, of which those that differ are shown


def side_by_side(content: Content) -> str:
    trials = [r for r in content.records if r.kind != Kind.BASELINE]
    if len(trials) < 2:
        return "<p>Two trials are needed for that.</p>"
    return (
        "<p>Choose two trials among <a href=#rows>every row</a>, by a click on the row or by the box at its beginning. "
        "What differs in their settings, their results, their curves on the same axes and their error maps of the same "
        "pictures then stand here.</p><div id=compared></div>"
        f"<template id=marks>{legend((*series_mark(i), '') for i in range(2))}</template>"
        f"<template id=other-maps>{_other_maps(content)}</template>"
        f'<script type="application/json" id=trials>{as_script(_facts(content, trials))}</script>'
    )


def _facts(content: Content, trials: Sequence[TrialRecord]) -> dict[str, object]:
    curves = {**HELD_OUT, **DIAGNOSTICS}
    every = {r.trial_id: _points(content.epochs.get(r.trial_id, ())) for r in trials}
    return {
        "settings": content.settings,
        "telling": TELLING,
        "first": [*FIRST, "device_seconds"],
        "rest": other_metrics(trials),
        "curves": curves,
        "epochs": {trial_id: [_point(e, curves) for e in epochs] for trial_id, epochs in every.items() if epochs},
        "pictures": [maps.name for maps in content.error_maps.pictures],
    }


def _points(epochs: Sequence[Epoch]) -> Sequence[Epoch]:
    """At most MOST_POINTS of them, evenly spaced, the last one in any case."""
    step = -(-len(epochs) // MOST_POINTS)
    return epochs[::-1][:: step or 1][::-1]


def _point(epoch: Epoch, curves: dict[str, str]) -> list[float | None]:
    """The epoch, then a value for each curve."""
    values = map(epoch.metrics.get, curves)
    return [epoch.epoch, *(None if value is None else float(f"{value:.{DIGITS}g}") for value in values)]


def as_script(facts: object) -> str:
    """JSON that ends no script and holds no markup."""
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return "".join(f"\\u{ord(c):04x}" if c in "<>&" else c for c in text)


def _other_maps(content: Content) -> str:
    """Of trials whose maps are not in the page already."""
    names = {r.trial_id: r.name for r in content.records}
    return "".join(
        map_image(values, content.error_maps.most, f"{names[t]}, {maps.name}", t, maps.name)
        for maps in content.error_maps.pictures
        for t, values in maps.others.items()
    )
