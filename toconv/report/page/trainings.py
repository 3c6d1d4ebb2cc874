"""How trainings went: curves by epoch, what failed or was pruned, and what to do next."""

from collections.abc import Mapping, Sequence
from html import escape

from toconv.analysis.pareto import against, named
from toconv.analysis.records import Kind, State, TrialRecord, settings_text
from toconv.evaluation.metrics import DIAGNOSTICS, VALIDATION, Place, shown_in
from toconv.report.content import Content
from toconv.report.front_data import DISTORTION, Results
from toconv.report.page.csv_files import of_epochs
from toconv.report.page.html import Html, command, details, panels, paragraphs, row, table
from toconv.report.page.svg import around, drawing, end_labels, frame, line, point, series_legend, series_mark
from toconv.training.epochs import Epoch

HELD_OUT = {m.name: f"{m.title.capitalize()}, {VALIDATION.title}" for m in shown_in(Place.CURVE)}
WIDTH, HEIGHT = 300, 240
MOST_TICKS = 6
ADVICE = {
    State.FAILED: "see why above, and run it with --debug",
    State.RUNNING: "start the same command again to go on with it",
}

Training = tuple[TrialRecord, Sequence[Epoch]]


def trainings(content: Content) -> str:
    finalists = named(content.records, Kind.FINALIST, State.COMPLETE)
    every = [(r, content.epochs.get(r.trial_id, ())) for r in finalists or content.recommended.values()]
    drawn, longer = [(r, epochs) for r, epochs in every if epochs], extended(content)
    if not drawn:
        return longer + "<p>No curves: no training is complete, or their metrics.jsonl are gone.</p>"
    who = "finalists, each seed a line" if finalists else "recommended trials"
    note = (
        "<h3>Diagnostics</h3><p>Means over an epoch’s steps, of the training itself: they are comparable within a "
        "training, not between settings, and rank nothing.</p>"
    )
    top = f"<p>By epoch, the {who}.</p>{series_legend(_sizes(drawn))}" + _panels(drawn, HELD_OUT, "curves")
    numbers = details("The numbers of these curves", _numbers(drawn))
    return top + note + _panels(drawn, DIAGNOSTICS, "diagnostics") + numbers + longer


def extended(content: Content) -> str:
    """What more epochs made of trials."""
    found, by_id = named(content.records, Kind.EXTENDED, State.COMPLETE), {r.trial_id: r for r in content.records}
    if not found:
        return ""
    heads, name = ["trial", "of", "tokens", f"{DISTORTION.name} of that", DISTORTION.name, "how"], DISTORTION.name
    rows = []
    for r in found:
        before = by_id.get(r.extends or "")
        was = before.values.get(name) if before else None
        of = before.name if before else r.extends
        rows.append(row([r.name, of, r.tokens, was, r.values[name], r.extension], heads))
    told = (
        "<h3>Trained for more epochs</h3><p>One that begins at the end of another has had its learning rate go down "
        "and up again, a warm restart: it is not what so many epochs from the start give. None of these are on the "
        "front.</p>"
    )
    return told + table(heads, rows, "Trials for more epochs", "sortable prose")


def _sizes(drawn: Sequence[Training]) -> list[int]:
    return sorted({r.tokens for r, _ in drawn})


def _curve(epochs: Sequence[Epoch], name: str) -> list[tuple[int, float]]:
    return [(e.epoch, e.metrics[name]) for e in epochs if name in e.metrics]


def _panels(drawn: Sequence[Training], names: Mapping[str, str], file: str) -> str:
    known = [name for name in names if any(_curve(epochs, name) for _, epochs in drawn)]
    plots = [f"<figure><figcaption>{escape(names[n])}</figcaption>{_curves(drawn, n)}</figure>" for n in known]
    return panels(plots, of_epochs(file, drawn, known))


def _curves(drawn: Sequence[Training], name: str) -> str:
    sizes, curves = _sizes(drawn), [(r, _curve(epochs, name)) for r, epochs in drawn]
    epochs = sorted({epoch for _, curve in curves for epoch, _ in curve})
    x = around(epochs, 48, WIDTH - 46)
    y = around([value for _, curve in curves for _, value in curve], HEIGHT - 46, 30)
    step = -(-len(epochs) // MOST_TICKS)
    parts, labels = [frame(x, y, [(x(e), str(e)) for e in epochs[::step]], "epoch", name.replace("_", " "))], {}
    for r, curve in curves:
        shape, style = series_mark(sizes.index(r.tokens))
        if curve:
            last, value = curve[-1]
            text = f"{r.name}, {r.tokens} tokens, epoch {last}: {name} {value:.4g}; {settings_text(r.params)}"
            parts += [
                line([(x(a), y(b)) for a, b in curve], style),
                point(x(last), y(value), shape, style, text, first=True, trial=r.trial_id, value=repr(value)),
            ]
            labels[r.tokens] = (y(value), str(r.tokens), shape, style)
    parts.append(end_labels(list(labels.values()), WIDTH - 34, 14, HEIGHT - 44))
    title = f"{name} by epoch of {len(drawn)} trainings; the table below has every number."
    return drawing(WIDTH, HEIGHT, "".join(parts), title, "plot panel")


def _numbers(drawn: Sequence[Training]) -> str:
    names = [*HELD_OUT, *DIAGNOSTICS]
    heads = ["trial", "tokens", "epoch", *names]
    rows = [row([r.name, r.tokens, e.epoch, *map(e.metrics.get, names)], heads) for r, epochs in drawn for e in epochs]
    return table(heads, rows, "Every epoch")


def what_failed(content: Content) -> str:
    failed, pruned, running = (named(content.records, state=s) for s in (State.FAILED, State.PRUNED, State.RUNNING))
    parts = [
        _failed(content, failed) if failed else "<p>Nothing failed.</p>",
        _pruned(content, pruned) if pruned else "<p>Nothing was pruned.</p>",
    ]
    if unevaluated := [r for r in content.records if r.not_evaluated]:
        parts.append(_unevaluated(unevaluated))
    if running:
        parts.append(f"<p>{len(running)} trial(s) have not ended: {escape(', '.join(r.name for r in running))}.</p>")
    steps = next_steps(content)
    if steps:
        parts.append("<h3>What to do next</h3>" + paragraphs(steps))
    return "".join(parts)


def _failed(content: Content, failed: Sequence[TrialRecord]) -> str:
    heads = ["trial", "settings", "why", "to debug"]
    rows = []
    for r in failed:
        debug = Html(command(r.debug_command(content.facts["command"])))
        rows.append(row([r.name, settings_text(r.params), r.reason, debug], heads))
    return f"<h3>Failed: {len(failed)}</h3>" + table(heads, rows, "Failed trials", "sortable prose")


def _unevaluated(records: Sequence[TrialRecord]) -> str:
    heads = ["trial", "settings", "why", "output"]
    rows = [row([r.name, settings_text(r.params), r.not_evaluated, r.paths.evaluation_log], heads) for r in records]
    told = "<p>Their trials are complete. The next start of the sweep tries them again.</p>"
    found = table(heads, rows, "Evaluations that failed", "sortable prose")
    return f"<h3>Evaluations that failed: {len(records)}</h3>{told}{found}"


def _pruned(content: Content, pruned: Sequence[TrialRecord]) -> str:
    heads = ["trial", "tokens", "settings", "epochs", "distortion then", "by"]
    rows = []
    for r in pruned:
        epochs = f"{len(content.epochs.get(r.trial_id, ()))} of {content.sweep.base.training.epochs}"
        by = r.reason or "successive halving"
        rows.append(row([r.name, r.tokens, settings_text(r.params), epochs, r.values.get(DISTORTION.name), by], heads))
    return (
        f"<h3>Pruned: {len(pruned)}</h3><p>Stopped early by successive halving on distortion within their cell, or by "
        "whom the table names.</p>" + table(heads, rows, "Pruned trials", "sortable prose")
    )


def next_steps(results: Results) -> list[str]:
    """Computed from the results alone."""
    worse = [text for text in against(results.records, "pool") if "NOT below" in text]
    steps = [f"{text}: give these trials more epochs or a lower loss.wgan_weight." for text in worse]
    for state, advice in ADVICE.items():
        names = [r.name for r in named(results.records, state=state)]
        if names:
            steps.append(f"{len(names)} trial(s) {state} ({', '.join(names[:5])}): {advice}.")
    if results.seed_groups and not results.repeated:
        steps.append(
            "A claim about a single trial needs seeds: finalists.seeds=3 runs the front again with fresh "
            "ones, on the test pictures."
        )
    return steps
