"""The numbers of each figure as a CSV file that the page holds itself: it stays one file, and needs no script."""

# g×g original tokens

import csv
import io
from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

from toconv.analysis.records import TrialRecord
from toconv.report.error_maps import PictureErrorMaps
from toconv.report.front_data import Plot
from toconv.report.page.html import Html
from toconv.training.epochs import Epoch

PLAIN = ",;:/=()@+*!$"  # what a data: address may hold as it is, beside letters and digits
HALF = "_half_interval"  # ends the name of what stands after ± in figures
DIGITS = 4  # of a map's values


def csv_link(name: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([heads, *rows])
    file = f"{escape(name)}.csv"
    data = f"data:text/csv;charset=utf-8,{quote(content.getvalue(), PLAIN)}"
    return Html(f'<a class=csv download="{file}" href="{data}">{file}</a>')


def of_plots(name: str, plots: Sequence[Plot], across: str | None = None) -> Html:
    """Trials, baselines and means over seeds; with what is measured `across` where that is not the number of tokens."""
    measured = plots[0].measured.name
    names = [*([across] if across else []), measured]
    heads = ["what", "name", "trial_id", "tokens", *(head for n in names for head in (n, n + HALF))]
    rows: list[list[object]] = []
    for plot in plots:
        baselines = (point for points in plot.baselines.values() for point in points)
        for what, points in (("trial", plot.trials), ("baseline", baselines)):
            for p in points:
                numbers = [*([p.x, None] if across else []), p.y, None]
                rows.append([what, p.record.name, p.record.trial_id, p.record.tokens, *numbers])
        for mean in (mean for mean in plot.means if mean.repeated):
            estimates = [*([mean.x] if across else []), mean.y]
            numbers = [number for e in estimates for number in (e.mean, e.half_width)]
            rows.append([mean.group.evidence, mean.group.name, None, mean.group.tokens, *numbers])
    return csv_link(name, heads, rows)


def of_trials(name: str, trials: Iterable[TrialRecord], settings: Sequence[str], metrics: Sequence[str]) -> Html:
    rows = ([r.trial_id, r.name, r.tokens, *map(r.params.get, settings), *map(r.values.get, metrics)] for r in trials)
    return csv_link(name, ["trial_id", "name", "tokens", *settings, *metrics], rows)


def of_epochs(name: str, trainings: Iterable[tuple[TrialRecord, Sequence[Epoch]]], metrics: Sequence[str]) -> Html:
    rows = (
        [r.trial_id, r.name, r.tokens, e.epoch, *map(e.metrics.get, metrics)] for r, epochs in trainings for e in epochs
    )
    return csv_link(name, ["trial_id", "name", "tokens", "epoch", *metrics], rows)


def of_maps(name: str, maps: PictureErrorMaps) -> Html:
    """A line for each row of tokens."""
    rows = [
        [kind, tokens, row, *(f"{value:.{DIGITS}g}" for value in values)]
        for kind, found in maps.kinds.items()
        for tokens, values_gg in found.items()
        for row, values in enumerate(values_gg)
    ]
    columns = len(rows[0]) - 3 if rows else 0
    return csv_link(name, ["map", "tokens", "row", *(f"column_{i}" for i in range(columns))], rows)
