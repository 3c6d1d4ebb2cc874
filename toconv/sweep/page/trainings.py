"""How trainings went: curves by epoch, and what failed or was pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from toconv.sweep.configurations import configurations
from toconv.sweep.page.content import Content
from toconv.sweep.page.html import Html, command, details, paragraphs, row, section, table
from toconv.sweep.page.svg import SERIES, around, drawing, end_labels, frame, legend, line, point
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import against, settings_text

HELD_OUT = {"distortion": "Distortion, validation", "perception": "Perception, validation"}
DIAGNOSTICS = {
    "L_disc": "The critic’s loss", "critic_gap": "Its score of originals less that of compressed tokens",
    "gradient_penalty": "The penalty, before lambda_gp", "gradient_norm": "Gradients of compressor and decoder",
    "critic_gradient_norm": "Gradients of the critic"}
WIDTH, HEIGHT = 300, 240
MOST_TICKS = 6

Row = Mapping[str, Any]


def how_trainings_went(content: Content) -> str:
    finalists = [r for r in content.records if r.kind == "finalist" and r.state == "complete"]
    drawn = [r for r in finalists or content.recommended.values() if content.epochs.get(r.trial_id)]
    if not drawn:
        return section("trainings", "How trainings went", "<p>No curves: no training is complete, or their "
                       "metrics.jsonl are gone.</p>")
    who = "finalists, each seed a line" if finalists else "recommended trials"
    sizes = sorted({r.tokens for r in drawn})
    entries = [(SERIES[i % len(SERIES)], f"series s{i % len(SERIES)}", f"{n} tokens") for i, n in enumerate(sizes)]
    content_ = (f"<p>By epoch, the {who}.</p>{legend(entries)}" + _panels(content, drawn, HELD_OUT)
                + "<h3>Diagnostics</h3><p>Means over an epoch’s steps, of the training itself: they are comparable "
                "within a training, not between settings, and rank nothing.</p>" + _panels(content, drawn, DIAGNOSTICS)
                + details("The numbers of these curves", _numbers(content, drawn)))
    return section("trainings", "How trainings went", content_)


def _panels(content: Content, drawn: Sequence[TrialRecord], names: Mapping[str, str]) -> str:
    plots = [f"<figure><figcaption>{escape(title)}</figcaption>{_curves(content, drawn, name)}</figure>"
             for name, title in names.items()
             if any(name in row["metrics"] for r in drawn for row in content.epochs[r.trial_id])]
    return f"<div class=panels>{''.join(plots)}</div>"


def _curves(content: Content, drawn: Sequence[TrialRecord], name: str) -> str:
    sizes = sorted({r.tokens for r in drawn})
    rows = {r.trial_id: [(e["epoch"], e["metrics"][name]) for e in content.epochs[r.trial_id] if name in e["metrics"]]
            for r in drawn}
    epochs = sorted({epoch for points in rows.values() for epoch, _ in points})
    x = around(epochs, 48, WIDTH - 46)
    y = around([value for points in rows.values() for _, value in points], HEIGHT - 46, 30)
    step = -(-len(epochs) // MOST_TICKS)
    parts, labels = [frame(x, y, [(x(e), str(e)) for e in epochs[::step]], "epoch", name.replace("_", " "))], {}
    for r in drawn:
        points, series = rows[r.trial_id], sizes.index(r.tokens) % len(SERIES)
        if points:
            last, value = points[-1]
            parts += [line([(x(a), y(b)) for a, b in points], f"s{series}"),
                      point(x(last), y(value), SERIES[series], f"series s{series}",
                            f"{r.name}, {r.tokens} tokens, epoch {last}: {name} {value:.4g}; {settings_text(r.params)}",
                            first=True, trial=r.trial_id, value=repr(value))]
            labels[r.tokens] = (y(value), str(r.tokens), SERIES[series], f"s{series}")
    parts.append(end_labels(list(labels.values()), WIDTH - 34, 14, HEIGHT - 44))
    return drawing(WIDTH, HEIGHT, "".join(parts), f"{name} by epoch of {len(drawn)} trainings; the table below has "
                   "every number.", "plot panel")


def _numbers(content: Content, drawn: Sequence[TrialRecord]) -> str:
    names = [*HELD_OUT, *DIAGNOSTICS]
    heads = ["trial", "tokens", "epoch", *names]
    rows = [row([r.name, r.tokens, e["epoch"], *(e["metrics"].get(name) for name in names)], heads)
            for r in drawn for e in content.epochs[r.trial_id]]
    return table(heads, rows, "Every epoch")


def what_failed(content: Content) -> str:
    failed, pruned, running = ([r for r in content.records if r.state == state]
                               for state in ("failed", "pruned", "running"))
    parts = [_failed(content, failed) if failed else "<p>Nothing failed.</p>",
             _pruned(content, pruned) if pruned else "<p>Nothing was pruned.</p>"]
    if running:
        parts.append(f"<p>{len(running)} trial(s) have not ended: {escape(', '.join(r.name for r in running))}.</p>")
    steps = next_steps(content.records)
    return section("failed", "What failed, what was pruned, what to do next",
                   "".join(parts) + ("<h3>What to do next</h3>" + paragraphs(steps) if steps else ""))


def _failed(content: Content, failed: Sequence[TrialRecord]) -> str:
    heads = ["trial", "settings", "why", "to debug"]
    rows = [row([r.name, settings_text(r.params), r.reason, Html(command(content.debug.get(r.trial_id, "")))], heads)
            for r in failed]
    return f"<h3>Failed: {len(failed)}</h3>" + table(heads, rows, "Failed trials", "sortable prose")


def _pruned(content: Content, pruned: Sequence[TrialRecord]) -> str:
    asked = content.sweep.base.training.epochs
    heads = ["trial", "tokens", "settings", "epochs", "distortion then"]
    rows = [row([r.name, r.tokens, settings_text(r.params), f"{len(content.epochs.get(r.trial_id, ()))} of {asked}",
                 r.values.get("distortion")], heads) for r in pruned]
    return (f"<h3>Pruned: {len(pruned)}</h3><p>Stopped early by successive halving on distortion within their cell."
            f"</p>" + table(heads, rows, "Pruned trials", "sortable prose"))


def next_steps(records: Sequence[TrialRecord]) -> list[str]:
    """Computed from the results alone."""
    steps = [f"{text}: give these trials more epochs or a lower loss.wgan_weight."
             for text in against(records, "pool") if "NOT below" in text]
    for state, advice in (("failed", "see why above, and run it with --debug"),
                          ("running", "start the same command again to go on with it")):
        names = [r.name for r in records if r.state == state]
        if names:
            steps.append(f"{len(names)} trial(s) {state} ({', '.join(names[:5])}): {advice}.")
    found = configurations(records)
    if found and not any(len(c.runs) > 1 for c in found):
        steps.append("A claim about a single trial needs seeds: finalists.seeds=3 runs the front again with fresh "
                     "ones, on the test pictures.")
    return steps
