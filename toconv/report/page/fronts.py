"""The front: what was reached at each number of tokens, in sentences, in figures and in numbers."""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape

from toconv.analysis.pareto import REFERENCES
from toconv.analysis.records import Kind, TrialRecord, baselines_at, settings_text
from toconv.analysis.results import FIRST
from toconv.analysis.seeds import CONFIDENCE, Estimate, compare
from toconv.evaluation.metrics import GIVEN, GIVEN_NOTE
from toconv.report.content import Content
from toconv.report.front_data import (
    DISTORTION,
    OWN,
    SHAPE_OF,
    Mean,
    Measured,
    Plot,
    Point,
    ends,
    panel_plot,
    tokens_plot,
)
from toconv.report.page.csv_files import of_plots
from toconv.report.page.html import View, details, figure, panels, paragraphs, row, shown, table, views
from toconv.report.page.hypervolume import hypervolume
from toconv.report.page.nested import nested
from toconv.report.page.svg import Scale, around, bar, clipped, drawing, end_labels, frame, legend, line, point

WIDTH, HEIGHT = 640, 400
PANEL = 260
APART = 9  # between marks that stand at the same number of tokens
LABEL_GAP = 21  # between two labels at the ends of lines: what they need on a phone
TRIAL = ("circle", "trial", "a trial")
RECOMMENDED = ("star", "recommended", "recommended: lowest validation distortion")
BEST = ("circle", "best", "best at each number of tokens by this metric")
SEEDS = ("circle", "estimate", f"mean over seeds of a trial’s settings, with its {CONFIDENCE:.0%} interval")
HARD_HALF = (
    "Hard half: the pictures on which the smaller picture of as many tokens does worst. docs/science.md says what each "
    "measure says, and what it does not."
)
CURVE = ("line", "mixing", "mixing curve, strided to pooled")


def the_front(content: Content) -> str:
    parts = [paragraphs(learnt(content), "learnt"), _evidence(content)]
    ours, own = ([m for m in content.measured if (m.split is OWN) == theirs] for theirs in (False, True))
    if ours:
        parts += ["<h3>Tokens against each metric</h3>", _by_tokens(content, ours)]
    if own:
        parts += ["<h3>Tokens against your own measure</h3>", _by_own_measure(content, own)]
    if content.against_distortion:
        titles = dict.fromkeys(m.metric.title for m in content.against_distortion)
        parts += [f"<h3>Distortion against {' and '.join(titles)}</h3>", _by_distortion(content)]
    parts += [nested(content), hypervolume(content)]
    if content.measured:
        parts.append(details("The numbers of these figures", _numbers(content, content.measured, "The metrics")))
    if content.folded:
        parts.append(details("What else was measured: more readers, and the hard half", _folded(content)))
    return "".join(parts)


def learnt(content: Content) -> list[str]:
    """For each number of tokens a sentence: the recommended compressor's distortion against that of the two strongest
    baselines."""
    lines = []
    for tokens, trial in content.recommended.items():
        free, ours = baselines_at(content.baselines, tokens), content.seed_group(trial).estimate(DISTORTION.name)
        theirs = {title: free[name].values[DISTORTION.name] for name, title in REFERENCES.items() if name in free}
        parts = [f"{_distance(ours, value)} {title} ({value:.4f})" for title, value in theirs.items() if ours]
        lines.append("; ".join([f"{tokens} tokens: distortion {ours} ({trial.name})", *parts]))
    return lines


def _distance(ours: Estimate, theirs: float) -> str:
    if compare(ours, theirs, DISTORTION) == "not separable":
        return "not separable from"
    return f"{100 * abs(1 - ours.mean / theirs):.1f} % {'below' if ours.mean < theirs else 'above'}"


def _evidence(content: Content) -> str:
    if not content.seed_groups:
        return "<p>No trial is complete: there is no front yet.</p>"
    if any(group.finalists for group in content.seed_groups):
        text = (
            "The front was trained again with fresh seeds: means over these seeds alone, with intervals, also on "
            "test pictures that no trial saw."
        )
    elif any(len(group.trials) > 1 for group in content.seed_groups):
        text = "Trainings that differ in their seed alone stand as one, with an interval."
    else:
        text = (
            "Every point is one training, chosen among several for its result: a difference between two points is "
            "a hint until seeds confirm it (finalists.seeds=3)."
        )
    return f"<p>{text}</p>"


def _by_tokens(content: Content, measured: Sequence[Measured]) -> str:
    return _tokens_legend(content) + _views("metric", measured, partial(_split_figure, content))


def _folded(content: Content) -> str:
    views = _views("measure", content.folded, partial(_split_figure, content), closer=False)
    numbers = _numbers(content, content.folded, "What else was measured")
    return f"<p>{HARD_HALF}</p>{_tokens_legend(content)}{views}{numbers}"


def _by_own_measure(content: Content, measured: Sequence[Measured]) -> str:
    note = "<p>What your evaluation wrote of each compressor. Baselines are no exports, and have none.</p>"
    return note + _tokens_legend(content) + "".join(_tokens_figure(content, m, m.metric.axis, True) for m in measured)


def _tokens_legend(content: Content) -> str:
    return legend([TRIAL, BEST, RECOMMENDED, *[SEEDS] * content.repeated])


def _split_figure(content: Content, measured: Measured, hidden: bool) -> str:
    return _tokens_figure(content, measured, f"{measured.metric.axis}, {measured.split.title} pictures", hidden)


def _tokens_figure(content: Content, measured: Measured, facts: str, hidden: bool) -> str:
    plot = tokens_plot(content, measured)
    words = f"{facts}; {measured.metric.direction}. {summary(plot)}{_given(plot)}"
    return figure(against_tokens(content, plot, hidden), words, of_plots(measured.file, [plot]))


def _by_distortion(content: Content) -> str:
    def drawn(measured: Measured, hidden: bool) -> str:
        plots = {n: panel_plot(content, measured, n) for n in content.sizes}
        drawings = {n: panel(content, plot, n, hidden) for n, plot in plots.items()}
        figures = (f"<figure><figcaption>{n} tokens</figcaption>{svg}</figure>" for n, svg in drawings.items())
        note = escape(_given(tokens_plot(content, measured)))
        found = panels(figures, of_plots(measured.panels_file, [*plots.values()], measured.across))
        return f"{found}{f'<p>{note}</p>' if note else ''}"

    baselines = [(shape, f"baseline {name}", name) for name, shape in SHAPE_OF.items()]
    entries = [TRIAL, RECOMMENDED, *[SEEDS] * content.repeated, CURVE, *baselines]
    return _note(content) + legend(entries) + _views("against", content.against_distortion, drawn)


def _given(plot: Plot) -> str:
    """Of which trials the metric is the loss."""
    count = sum(p.record.is_given(plot.measured.name) for p in plot.trials)
    return f" {count} of {len(plot.trials)} trials: {GIVEN_NOTE}." if count else ""


def _views(key: str, measured: Sequence[Measured], drawn: Callable[[Measured, bool], str], closer: bool = True) -> str:
    """Each of them with its baselines and, where asked, `closer`, without."""
    found, views_of_each = [], {"shown": False, **({"hidden": True} if closer else {})}
    for m in measured:
        for baselines, hidden in views_of_each.items():
            keys = {key: m.metric.name, "pictures": m.split.title, "baselines": baselines}
            found.append(View(keys, drawn(m, hidden), extra=hidden))
    choices = {
        key: {m.metric.name: m.metric.words for m in measured},
        "pictures": {m.split.title: m.split.title for m in measured},
        "baselines": {"shown": "shown", **({"hidden": "hidden, closer"} if closer else {})},
    }
    return views(choices, found)


def _note(content: Content) -> str:
    metrics = dict.fromkeys(m.metric for m in content.against_distortion)
    sides = ", ".join(f"{'below' if m.lower_is_better else 'above'} it for {m.title}" for m in metrics)
    return (
        "<p>Distortion: left is better. A training is worth its cost where it lies beyond the dashed curve, which "
        f"mixes strided and pooled tokens and costs nothing: {sides}.</p>"
    )


def _numbers(content: Content, measured: Sequence[Measured], what: str) -> str:
    names = [m.name for m in measured]
    heads, rows = ["tokens", "name", "evidence", *names], []
    for n in content.sizes:
        for group in (group for group in content.seed_groups if group.tokens == n):
            rows.append(row([n, group.name, group.evidence, *map(group.estimate, names)], heads))
        for r in baselines_at(content.baselines, n).values():
            rows.append(row([n, r.name, "baseline", *map(r.values.get, names)], heads, " class=baseline"))
    caption = f"{what}: mean over seeds ± half the {CONFIDENCE:.0%} interval, where there are several"
    return table(heads, rows, caption)


def against_tokens(content: Content, plot: Plot, hidden: bool) -> str:
    """`hidden`: without baselines, as near as trials allow."""
    name, baselines = plot.measured.name, {} if hidden else plot.baselines
    x, y = _tokens_scale(content.sizes), around(plot.along("y", not hidden), HEIGHT - 58, 40)
    places = _places(plot, x)
    best = [(places[id(mean)], y(mean.y.mean)) for mean in plot.best.values()]
    labels = [(y(points[-1].y), which, SHAPE_OF[which], "baseline") for which, points in baselines.items()]
    labels += [(best[-1][1], "best trained", "circle", "best")] if best else []
    parts = [frame(x, y, [(x(n), str(n)) for n in content.sizes], "tokens (k²)", plot.measured.metric.axis)]
    for which, points in baselines.items():
        parts.append(line([(x(p.x), y(p.y)) for p in points], f"baseline {which}"))
        parts += [_mark(content, p, x, y) for p in points]
    trials = [(content.standing(p.record) == "recommended", _mark(content, p, x, y)) for p in plot.trials]
    parts += [
        line(best, "best"),
        *(mark for recommended, mark in trials if not recommended),
        *(_mean(m, places[id(m)], y, name, m is plot.best.get(m.group.tokens)) for m in plot.means if id(m) in places),
        *(mark for recommended, mark in trials if recommended),
        end_labels(labels, WIDTH - 122, LABEL_GAP, HEIGHT - 50),
    ]
    title = f"{plot.measured.metric.axis} against tokens. {summary(plot)} The table below has every number."
    return drawing(WIDTH, HEIGHT, "".join(parts), title, "plot wide-plot")


def summary(plot: Plot) -> str:
    """The best at each number of tokens, in words."""
    return f"Best trained: {', '.join(f'{shown(mean.y)} at {n} tokens' for n, mean in plot.best.items())}."


def _tokens_scale(sizes: Sequence[int]) -> Scale:
    low, high = sizes[0], sizes[-1]
    margin = (high / low) ** 0.08 if high > low else 1.5
    return Scale(low / margin, high * margin, 62, WIDTH - 136, log=True)


def _places(plot: Plot, x: Scale) -> dict[int, float]:
    """Where along x each mean lies, by its id. Means over seeds lie to the right of their trials, the best first; the
    best at its own x where it is a single training. Other single trainings are drawn as trials alone."""
    found = {}
    for tokens, best in plot.best.items():
        repeated = [mean for mean in plot.means if mean.group.tokens == tokens and mean.repeated]
        for number, mean in enumerate(sorted(repeated, key=lambda mean: mean is not best), 1):
            found[id(mean)] = x(tokens) + APART * number
        found.setdefault(id(best), x(tokens))
    return found


def panel(content: Content, plot: Plot, tokens: int, hidden: bool) -> str:
    """`hidden`: without baselines, as near as trials allow."""
    hidden = hidden and bool(plot.trials or plot.means)
    x, y = around(plot.along("x", not hidden), 48, PANEL - 8), around(plot.along("y", not hidden), PANEL - 46, 30)
    across = plot.measured.across.replace("_", " ")
    parts = [
        frame(x, y, x.ticks(4), f"{across} (FVU)", plot.measured.words),
        clipped(x, y, line([(x(p.x), y(p.y)) for p in plot.curve], "mixing")),
        *(_mark(content, p, x, y) for points in plot.baselines.values() for p in points if not hidden),
        *(_mark(content, p, x, y) for p in plot.trials),
        *(_crossed(mean, x, y) for mean in plot.means if mean.repeated),
    ]
    title = f"Distortion against {plot.measured.metric.title} at {tokens} tokens; the table below has every number."
    return drawing(PANEL, PANEL, "".join(parts), title, "plot panel")


def reading(record: TrialRecord, label: str = "") -> str:
    """What is read at a point: its name, its metrics, its settings."""
    known = [name for name in FIRST if name in record.values]
    values = ", ".join(f"{name} {record.values[name]:.4g}{GIVEN if record.is_given(name) else ''}" for name in known)
    baseline = record.kind == Kind.BASELINE
    settings = "" if baseline else f"; {settings_text(record.params)}"
    return f"{'baseline ' if baseline else ''}{record.name}{label}, {record.tokens} tokens: {values}{settings}"


def _mark(content: Content, p: Point, x: Scale, y: Scale) -> str:
    r, standing = p.record, content.standing(p.record)
    recommended, text = standing == "recommended", reading(r, "" if standing == "other" else f" ({standing})")
    shape, style = ("star", "recommended") if recommended else ("circle", "trial")
    if r.kind == Kind.BASELINE:
        shape, style = SHAPE_OF[r.name], f"baseline {r.name}"
    return point(x(p.x), y(p.y), shape, style, text, first=recommended, trial=r.trial_id, value=repr(p.y))


def _mean(mean: Mean, x: float, y: Scale, name: str, best: bool) -> str:
    (low, high), style = ends(mean.y), "best" if best else "estimate"
    interval = bar((x, y(low)), (x, y(high)), style) if mean.repeated else ""
    text = f"{mean.group.name}, {mean.group.tokens} tokens, {mean.group.evidence}: {name} {shown(mean.y)}"
    return interval + point(x, y(mean.y.mean), "circle", style, text, first=best, value=repr(mean.y.mean))


def _crossed(mean: Mean, x: Scale, y: Scale) -> str:
    (left, right), (low, high) = ends(mean.x), ends(mean.y)
    a, b = x(mean.x.mean), y(mean.y.mean)
    text = f"{mean.group.name}, {mean.group.evidence}: distortion {shown(mean.x)}, against {shown(mean.y)}"
    return (
        bar((x(left), b), (x(right), b), "estimate")
        + bar((a, y(low)), (a, y(high)), "estimate")
        + point(a, b, "circle", "estimate", text, across=repr(mean.x.mean), value=repr(mean.y.mean))
    )
