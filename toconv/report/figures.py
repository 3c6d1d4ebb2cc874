"""Figures by matplotlib: the report's for a paper (PNG and PDF, in the width of a page), and those of two commands."""

# C channels, H W pixels, g×g tokens

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toconv.analysis.ablation import LINEAR, training
from toconv.analysis.records import TrialRecord
from toconv.evaluation.metrics import GIVEN_TRIALS, VALIDATION
from toconv.export.module import TokenCompressor
from toconv.own_files import MARK, MARK_KEY
from toconv.paths import write_atomic
from toconv.report.error_maps import ErrorMaps, denormalised
from toconv.report.front_data import SHAPE_OF, Mean, Measured, Plot, Point, Results, panel_plot, tokens_plot
from toconv.settings import CRITIC_WEIGHT

TRIAL, BEST, BASELINE, MIXING = "#0072B2", "#D55E00", "#5f6872", "#7a5c00"
MARKERS = {"square": "s", "up": "^", "diamond": "D", "hexagon": "h", "down": "v", "plus": "P", "cross": "X"}
WIDTH, DPI = 6.8, 220  # inches of a text page, dots per inch
SCREEN_DPI = 110  # of figures that are no part of a report
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "lines.linewidth": 1.2,
}
COLUMNS = 4  # panels side by side
KINDS = ("png", "pdf")


def write_figures(folder: Path, results: Results, maps: ErrorMaps) -> list[Path]:
    """One file of each kind a figure; returns what was written."""
    found: dict[str, Figure] = {}
    with rc_context(STYLE):
        for measured in results.measured:
            found[measured.file] = against_tokens(results, measured)
        for measured in results.against_distortion:
            found[measured.panels_file] = against_distortion(results, measured)
        if maps.pictures:
            found["error_maps"] = error_maps(maps)
        return [path for name, figure in found.items() for path in _save(folder / name, figure)]


def _save(path: Path, figure: Figure) -> list[Path]:
    """Laid out once for all kinds: with a layout engine matplotlib draws a figure three times for each."""
    figure.set_dpi(DPI)
    if layout := figure.get_layout_engine():
        layout.execute(figure)
        figure.set_layout_engine(None)
    paths = [path.with_name(f"{path.name}.{kind}") for kind in KINDS]
    for written, kind in zip(paths, KINDS, strict=True):
        write_atomic(written, _image(figure, kind, DPI))
    return paths


def _image(figure: Figure, kind: str, dpi: int, metadata: Mapping[str, str] = {}) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=dpi, metadata={"CreationDate": None} if kind == "pdf" else dict(metadata))
    return image.getvalue()


def against_tokens(results: Results, measured: Measured) -> Figure:
    """Complete trials, the best at each number of tokens with its interval, and the baselines."""
    plot = tokens_plot(results, measured)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    _baselines(axes, plot, linewidth=0.7, linestyle=":")
    _trials(axes, plot.trials, "o", color=TRIAL, label="trial", alpha=0.6)
    _means(axes, list(plot.best.values()), label="best trained", markersize=4.5, capsize=2.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(results.sizes, [str(n) for n in results.sizes])
    axes.minorticks_off()
    pictures = f", {measured.split.title} pictures" if measured.split.name else ""
    axes.set(xlabel="tokens", ylabel=fill(f"{measured.metric.axis}{pictures}", 48))
    if any(p.record.is_given(measured.name) for p in plot.trials):
        figure.supxlabel(GIVEN_TRIALS, fontsize=6)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def against_distortion(results: Results, measured: Measured) -> Figure:
    """Distortion against another metric, a panel for each number of tokens, with the mixing curve."""
    columns = min(len(results.sizes), COLUMNS)
    rows = -(-len(results.sizes) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.5), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, tokens in zip(places, results.sizes, strict=False):
        plot = panel_plot(results, measured, tokens)
        _panel(axes, plot)
        _trials(axes, plot.trials, "o", color=TRIAL, label="trial")
        axes.set_title(f"{tokens} tokens", fontsize=8)
        axes.set_xlabel("distortion (FVU)")
    for axes in places[len(results.sizes) :]:
        axes.set_axis_off()
    for axes in places[::columns]:
        axes.set_ylabel(f"{measured.metric.title},\n{measured.split.title} pictures")
    if any(r.is_given(measured.name) for r in results.complete):
        figure.suptitle(GIVEN_TRIALS, fontsize=6)
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def draw_ablation(records: Sequence[TrialRecord], path: Path) -> None:
    """Write `ablation_figure` as a PNG."""
    write_atomic(path, _image(ablation_figure(records), "png", SCREEN_DPI))


def ablation_figure(records: Sequence[TrialRecord]) -> Figure:
    """Distortion against each other metric at each number of tokens: trainings with a critic, a marker for each of its
    weights, those of reconstruction alone, the linear codes and the mixing curve."""
    results = Results(records)
    rows = [m for m in results.against_distortion if m.split is VALIDATION]
    figure = Figure(figsize=(3 * len(results.sizes), 2.8 * len(rows)), layout="constrained")
    places = figure.subplots(len(rows), len(results.sizes), squeeze=False)
    for row, measured in zip(places, rows, strict=True):
        for axes, tokens in zip(row, results.sizes, strict=True):
            plot = panel_plot(results, measured, tokens)
            plot = replace(plot, means=[], baselines={n: p for n, p in plot.baselines.items() if n in LINEAR})
            _panel(axes, plot)
            _by_critic_weight(axes, plot.trials)
        row[0].set_ylabel(f"{measured.metric.title} ({measured.metric.direction})")
    for axes, tokens in zip(places[0], results.sizes, strict=True):
        axes.set_title(f"{tokens} tokens", fontsize=10)
    places[0][0].legend(fontsize=7)
    figure.supxlabel(f"distortion (FVU), {VALIDATION.title}", fontsize=9)
    return figure


def _by_critic_weight(axes: Axes, trials: Sequence[Point]) -> None:
    weights = sorted({p.record.params[CRITIC_WEIGHT] for p in trials if CRITIC_WEIGHT in p.record.params})
    for weight, marker in zip(weights, cycle("os^vPX"), strict=False):
        points = [p for p in trials if p.record.params.get(CRITIC_WEIGHT) == weight]
        _trials(axes, points, marker, color=BEST if weight else TRIAL, label=training(weight), markersize=5)


def _panel(axes: Axes, plot: Plot) -> None:
    """Baselines and seed groups."""
    if plot.curve:
        axes.plot(*_places(plot.curve), color=MIXING, linestyle="--", label="mixing curve")
    _baselines(axes, plot, linestyle="none")
    for mean in (m for m in plot.means if m.repeated):
        _means(axes, [mean], linewidth=0.9, markersize=3, capsize=1.5)
    axes.tick_params(labelsize=6)


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [p.x for p in points], [p.y for p in points]


def _baselines(axes: Axes, plot: Plot, **style: Any) -> None:
    for name, points in plot.baselines.items():
        marker = MARKERS[SHAPE_OF[name]]
        axes.plot(*_places(points), color=BASELINE, marker=marker, markersize=4, label=name, **style)


def _trials(axes: Axes, points: Sequence[Point], marker: str, **style: Any) -> None:
    if points:
        look = {"markersize": 3.2, "markeredgewidth": 0, "zorder": 3, **style}
        axes.plot(*_places(points), marker, **look)


def _means(axes: Axes, means: Sequence[Mean], **style: Any) -> None:
    x, y = [m.x.mean for m in means], [m.y.mean for m in means]
    across, up = [m.x.half_width or 0 for m in means], [m.y.half_width or 0 for m in means]
    xerr = across if any(across) else None
    axes.errorbar(x, y, yerr=up, xerr=xerr, color=BEST, marker="o", zorder=4, **style)


def error_maps(maps: ErrorMaps) -> Figure:
    """A row for each picture: itself, then average pooling and the best compressor at each number of tokens."""
    sizes = list(maps.pictures[0].pooled)
    columns = 1 + 2 * len(sizes)
    figure = Figure(figsize=(WIDTH, len(maps.pictures) * ((WIDTH - 0.7) / columns + 0.2)), layout="constrained")
    places = figure.subplots(len(maps.pictures), columns, squeeze=False)
    for row, picture in zip(places, maps.pictures, strict=True):
        row[0].imshow(picture.image_HW3)
        row[0].set_title(picture.name.rsplit("/", 1)[-1].rsplit(".", 1)[0][-18:], fontsize=4.5, parse_math=False)
        pairs = [(kind, n, found[n]) for n in sizes for kind, found in picture.kinds.items()]
        for axes, (kind, n, values_gg) in zip(row[1:], pairs, strict=True):
            drawn = axes.imshow(values_gg, cmap="magma", vmin=0, vmax=maps.most)
            axes.set_title(f"{kind}, {n}: {values_gg.mean():.3f}", fontsize=4.5)
    for axes in places.flatten():
        axes.set_axis_off()
    bar = figure.colorbar(drawn, ax=places, shrink=0.8, pad=0.01, aspect=30)
    bar.set_label("squared error over the picture's variance", fontsize=6)
    bar.ax.tick_params(labelsize=5)
    return figure


def error_map(pixels_3HW: torch.Tensor, error_gg: torch.Tensor, compressor: TokenCompressor) -> bytes:
    """A PNG: the picture as the encoder sees it, and beside it the error of each token on top of it."""
    image_HW3 = denormalised(pixels_3HW, compressor.encoder)
    size, g, k = len(image_HW3), compressor.grid_size, compressor.k
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image_HW3)
    left.set_title(f"picture, {g}×{g} tokens", fontsize=10)
    right.imshow(image_HW3.mean(-1), cmap="gray", extent=(0, size, size, 0))
    drawn = right.imshow(error_gg.numpy(), cmap="magma", alpha=0.65, vmin=0, extent=(0, size, size, 0))
    right.set_title(f"not recovered from {k}×{k} tokens, mean {100 * error_gg.mean():.1f} %", fontsize=10)
    figure.colorbar(drawn, ax=right, label="squared error over mean variance", shrink=0.9)
    for axes in (left, right):
        axes.set_axis_off()
    return _image(figure, "png", SCREEN_DPI, {MARK_KEY: MARK})
