"""The report's figures, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toconv.sweep.records import TrialRecord

TRIAL, FRONT, BASELINE = "#2f6fb5", "#c2410c", "#64748b"
MARKERS = {"pool": "s", "strided": "^", "pca": "D", "pool_bilinear": "v", "pool_rescaled": "P", "random": "x"}
COLUMNS = 4  # panels side by side


def tokens_against_distortion(records: Sequence[TrialRecord], best: Sequence[TrialRecord]) -> str:
    """Every complete trial, the lowest distortion at each number of tokens as a line, and the baselines."""
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.subplots()
    trials = [r for r in records if r.kind == "trial" and r.state == "complete"]
    axes.scatter([r.tokens for r in trials], [r.values["distortion"] for r in trials], s=22, color=TRIAL, alpha=0.6,
                 label="trial", zorder=3)
    lowest = {n: min(r.values["distortion"] for r in best if r.tokens == n) for n in sorted({r.tokens for r in best})}
    axes.plot(list(lowest), list(lowest.values()), color=FRONT, marker="o", label="lowest of the front", zorder=4)
    for name, marker in MARKERS.items():
        rows = sorted((r for r in records if r.name == name and r.kind == "baseline"), key=lambda r: r.tokens)
        axes.plot([r.tokens for r in rows], [r.values["distortion"] for r in rows], color=BASELINE, marker=marker,
                  markersize=5, linewidth=0.8, linestyle=":", label=name)
    ticks = sorted({r.tokens for r in records})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xlabel("tokens")
    axes.set_ylabel("distortion (FVU), validation")
    axes.legend(fontsize=8, ncols=2)
    return _svg(figure)


def distortion_against_perception(records: Sequence[TrialRecord], best: Sequence[TrialRecord]) -> str:
    """A panel for each number of tokens: trials, the front, baselines and the mixing curve."""
    sizes = sorted({r.tokens for r in records})
    rows = -(-len(sizes) // COLUMNS)
    figure = Figure(figsize=(3.1 * min(len(sizes), COLUMNS), 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, min(len(sizes), COLUMNS), squeeze=False).flatten()
    for axes, tokens in zip(panels, sizes, strict=False):
        _panel(axes, [r for r in records if r.tokens == tokens], [r for r in best if r.tokens == tokens])
        axes.set_title(f"{tokens} tokens", fontsize=10)
    for axes in panels[len(sizes):]:
        axes.set_axis_off()
    panels[0].legend(fontsize=7)
    figure.supxlabel("distortion (FVU), validation", fontsize=9)
    figure.supylabel("perception (excess sliced Wasserstein)", fontsize=9)
    return _svg(figure)


def _panel(axes: Axes, records: Sequence[TrialRecord], best: Sequence[TrialRecord]) -> None:
    def points(rows: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
        return [r.values["distortion"] for r in rows], [r.values["perception"] for r in rows]

    baselines = {r.name: r for r in records if r.kind == "baseline"}
    curve = [baselines[name] for name in ("strided", "mixing_0.75", "mixing_0.5", "mixing_0.25", "pool")
             if name in baselines]
    axes.plot(*points(curve), color=BASELINE, linewidth=1, linestyle="--", label="mixing strided and pool")
    for name, marker in MARKERS.items():
        if name in baselines:
            axes.scatter(*points([baselines[name]]), color=BASELINE, marker=marker, s=24)
            axes.annotate(name, (baselines[name].values["distortion"], baselines[name].values["perception"]),
                          fontsize=6, xytext=(3, 3), textcoords="offset points", color=BASELINE)
    axes.scatter(*points([r for r in records if r.kind == "trial" and r.state == "complete"]), color=TRIAL, s=20,
                 label="trial", zorder=3)
    axes.scatter(*points(best), facecolors="none", edgecolors=FRONT, s=60, linewidths=1.4, label="front", zorder=4)
    axes.tick_params(labelsize=7)


def _svg(figure: Figure) -> str:
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue().partition("<svg")[1] + content.getvalue().partition("<svg")[2]
