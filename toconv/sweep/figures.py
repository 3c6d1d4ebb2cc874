"""The report's figures for a paper: PNG and PDF, in the width of a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toconv.paths import write_atomic
from toconv.sweep.configurations import SPLITS, Configuration, Measure, best_at_each
from toconv.sweep.lost import Lost
from toconv.sweep.page.content import Content
from toconv.sweep.records import TrialRecord
from toconv.sweep.twins import CURVE

TRIAL, BEST, BASELINE, MIXING = "#0072B2", "#D55E00", "#5f6872", "#7a5c00"
MARKERS = {"pool": "s", "strided": "^", "pca": "D", "pool_bilinear": "v", "pool_rescaled": "P", "random": "X"}
WIDTH, DPI = 6.8, 220  # inches of a text page, dots per inch
STYLE = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
         "legend.frameon": False, "legend.fontsize": 7, "pdf.fonttype": 42, "lines.linewidth": 1.2}
COLUMNS = 4  # panels side by side
KINDS = ("png", "pdf")


def write_figures(folder: Path, content: Content) -> list[Path]:
    """One file of each kind a figure; returns what was written."""
    found: dict[str, Figure] = {}
    with rc_context(STYLE):
        for prefix, measure in content.measured:
            found[f"front_{prefix}{measure.name}"] = tokens_against(content, prefix, measure)
            if measure.name in ("perception", "use"):
                found[f"{prefix}distortion_{measure.name}"] = panels(content, prefix, measure)
        if content.lost.pictures:
            found["heat_maps"] = heat_maps(content.lost)
        return [_save(folder / f"{name}.{kind}", figure, kind) for name, figure in found.items() for kind in KINDS]


def _save(path: Path, figure: Figure, kind: str) -> Path:
    image = io.BytesIO()
    figure.savefig(image, format=kind, dpi=DPI, metadata={"CreationDate": None} if kind == "pdf" else {})
    figure.set_layout_engine("none")  # the parts stay where the first kind put them
    write_atomic(path, image.getvalue())
    return path


def tokens_against(content: Content, prefix: str, measure: Measure) -> Figure:
    """Complete trials, the best at each number of tokens with its interval, and the baselines."""
    name = prefix + measure.name
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    for baseline, marker in MARKERS.items():
        rows = sorted((r for r in content.baselines if r.name == baseline and name in r.values), key=lambda r: r.tokens)
        if rows:
            axes.plot([r.tokens for r in rows], [r.values[name] for r in rows], color=BASELINE, marker=marker,
                      markersize=4, linewidth=0.7, linestyle=":", label=baseline)
    trials = [r for r in content.complete if name in r.values]
    axes.scatter([r.tokens for r in trials], [r.values[name] for r in trials], s=10, color=TRIAL, alpha=0.6,
                 linewidths=0, label="trial" if trials else None, zorder=3)
    best = best_at_each(content.configurations, name, measure)
    estimates = [c.estimate(name) for c in best.values()]
    axes.errorbar(list(best), [e.mean for e in estimates], yerr=[e.half_width or 0 for e in estimates], color=BEST,
                  marker="o", markersize=4.5, capsize=2.5, label="best trained", zorder=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(content.sizes, [str(n) for n in content.sizes])
    axes.minorticks_off()
    axes.set(xlabel="tokens", ylabel=f"{measure.title},\n{SPLITS[prefix]} pictures")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def panels(content: Content, prefix: str, measure: Measure) -> Figure:
    """Distortion against `measure`, a panel for each number of tokens, with the mixing curve."""
    columns = min(len(content.sizes), COLUMNS)
    rows = -(-len(content.sizes) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 2.2 * rows + 0.5), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    names = f"{prefix}distortion", prefix + measure.name
    for axes, tokens in zip(places, content.sizes, strict=False):
        _panel(axes, [r for r in [*content.complete, *content.baselines] if r.tokens == tokens],
               [c for c in content.configurations if c.tokens == tokens], names)
        axes.set_title(f"{tokens} tokens", fontsize=8)
        axes.set_xlabel("distortion (FVU)")
    for axes in places[len(content.sizes):]:
        axes.set_axis_off()
    for axes in places[::columns]:
        axes.set_ylabel(f"{measure.name}, {SPLITS[prefix]} pictures")
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, records: Sequence[TrialRecord], found: Sequence[Configuration], names: tuple[str, str]) -> None:
    rows = [r for r in records if all(name in r.values for name in names)]
    free = {r.name: [r.values[name] for name in names] for r in rows if r.kind == "baseline"}
    curve = [free[name] for name in CURVE if name in free]
    if curve:
        axes.plot(*zip(*curve, strict=True), color=MIXING, linestyle="--", label="mixing curve")
    for name, marker in MARKERS.items():
        if name in free:
            axes.plot(*free[name], color=BASELINE, marker=marker, markersize=4, linestyle="none", label=name)
    trials = [[r.values[name] for name in names] for r in rows if r.kind == "trial"]
    if trials:
        axes.scatter(*zip(*trials, strict=True), s=10, color=TRIAL, linewidths=0, label="trial", zorder=3)
    for c in found:
        a, b = (c.estimate(name) for name in names)
        if a and b and b.half_width is not None:
            axes.errorbar(a.mean, b.mean, xerr=a.half_width, yerr=b.half_width, color=BEST, marker="o", markersize=3,
                          capsize=1.5, linewidth=0.9, zorder=4)
    axes.tick_params(labelsize=6)


def heat_maps(lost: Lost) -> Figure:
    """A row for each picture: itself, then average pooling and the best compressor at each number of tokens."""
    sizes = list(lost.pictures[0].pooled)
    columns = 1 + 2 * len(sizes)
    figure = Figure(figsize=(WIDTH, len(lost.pictures) * ((WIDTH - 0.7) / columns + 0.2)), layout="constrained")
    places = figure.subplots(len(lost.pictures), columns, squeeze=False)
    for row, maps in zip(places, lost.pictures, strict=True):
        row[0].imshow(maps.image_HW3)
        row[0].set_title(maps.name.rsplit("/", 1)[-1].rsplit(".", 1)[0][-18:], fontsize=4.5)
        pairs = [(kind, n, found[n]) for n in sizes for kind, found in (("pooled", maps.pooled), ("best", maps.best))]
        for axes, (kind, n, values) in zip(row[1:], pairs, strict=True):
            drawn = axes.imshow(values, cmap="magma", vmin=0, vmax=lost.most)
            axes.set_title(f"{kind}, {n}: {values.mean():.3f}", fontsize=4.5)
    for axes in places.flatten():
        axes.set_axis_off()
    bar = figure.colorbar(drawn, ax=places, shrink=0.8, pad=0.01, aspect=30)
    bar.set_label("squared error over the picture's variance", fontsize=6)
    bar.ax.tick_params(labelsize=5)
    return figure
