"""Figures of the front: tokens against each measure, and distortion against perception and use at each k."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from toconv.sweep.configurations import MEASURES, SPLITS, Configuration, Measure, best_at_each, compare
from toconv.sweep.finalists import CONFIDENCE, Estimate
from toconv.sweep.page.content import Content
from toconv.sweep.page.html import View, details, figure, paragraphs, row, section, shown, table, views
from toconv.sweep.page.svg import Scale, around, bar, clipped, drawing, end_labels, frame, legend, line, point
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import BASELINE_NAMES, METRICS, settings_text
from toconv.sweep.twins import CURVE

SHAPE_OF = {"pool": "square", "strided": "up", "pca": "diamond", "pool_bilinear": "down", "pool_rescaled": "plus",
            "random": "cross"}  # of baselines
WIDTH, HEIGHT = 640, 400
PANEL = 260
APART = 9  # between marks that stand at the same number of tokens
LABEL_GAP = 21  # between two labels at the ends of lines: what they need on a phone
TRIAL = ("circle", "trial", "a trial")
RECOMMENDED = ("star", "recommended", "recommended: lowest validation distortion")
BEST = ("circle", "best", "best at each number of tokens by this measure")
SEEDS = ("circle", "estimate", f"mean over seeds of a trial’s settings, with its {CONFIDENCE:.0%} interval")


def the_front(content: Content) -> str:
    parts = [paragraphs(learnt(content), "learnt"), _evidence(content)]
    if content.measured:
        parts += ["<h3>Tokens against each measure</h3>", _by_tokens(content),
                  "<h3>Distortion against perception and use</h3>", _panels(content),
                  details("The numbers of these figures", _numbers(content))]
    return section("front", "The front", "".join(parts))


def learnt(content: Content) -> list[str]:
    """For each number of tokens a sentence: the recommended compressor's distortion against that of the two strongest
    baselines."""
    lines = []
    for tokens, trial in content.recommended.items():
        ours = content.configuration(trial).estimate("distortion")
        free = {r.name: r.values["distortion"] for r in content.baselines if r.tokens == tokens}
        parts = [f"{_distance(ours, free[name])} {title} ({free[name]:.4f})"
                 for name, title in BASELINE_NAMES.items() if name in free]
        lines.append(f"{tokens} tokens: distortion {ours} ({trial.name}" + "; ".join([")", *parts]))
    return lines


def _distance(ours: Estimate, theirs: float) -> str:
    if compare(ours, theirs, MEASURES[0]) == "not separable":
        return "not separable from"
    return f"{100 * abs(1 - ours.mean / theirs):.1f} % {'below' if ours.mean < theirs else 'above'}"


def _evidence(content: Content) -> str:
    if not content.configurations:
        return "<p>No trial is complete: there is no front yet.</p>"
    if any(c.finalists for c in content.configurations):
        text = ("The front was trained again with fresh seeds: means over these seeds alone, with intervals, also on "
                "test pictures that no trial saw.")
    elif any(len(c.trials) > 1 for c in content.configurations):
        text = "Trainings that differ in their seed alone stand as one, with an interval."
    else:
        text = ("Every point is one training, chosen among several for its result: a difference between two points is "
                "a hint until seeds confirm it (finalists.seeds=3).")
    return f"<p>{text}</p>"


def _choices(content: Content, key: str, measures: Sequence[Measure]) -> dict[str, dict[str, str]]:
    prefixes = list(dict.fromkeys(prefix for prefix, _ in content.measured))
    return {key: {m.name: m.name.replace("_", " ") for m in measures},
            "pictures": {SPLITS[p]: SPLITS[p] for p in prefixes},
            "baselines": {"shown": "shown", "hidden": "hidden, closer"}}


def _by_tokens(content: Content) -> str:
    found = []
    for prefix, measure in content.measured:
        for hidden in (False, True):
            svg = tokens_against(content, prefix, measure, [] if hidden else content.baselines)
            caption = f"{measure.title}, {SPLITS[prefix]} pictures; {measure.way}. {_summary(content, prefix, measure)}"
            keys = {"measure": measure.name, "pictures": SPLITS[prefix], "baselines": "hidden" if hidden else "shown"}
            found.append(View(keys, figure(svg, caption), extra=hidden))
    measures = list(dict.fromkeys(m for _, m in content.measured))
    entries = [TRIAL, BEST, RECOMMENDED, *_seeds(content)]
    return legend(entries) + views(_choices(content, "measure", measures), found)


def _seeds(content: Content) -> list[tuple[str, str, str]]:
    return [SEEDS] if any(len(c.runs) > 1 for c in content.configurations) else []


def _summary(content: Content, prefix: str, measure: Measure) -> str:
    best = best_at_each(content.configurations, prefix + measure.name, measure)
    return "Best trained: " + ", ".join(
        f"{shown(c.estimate(prefix + measure.name))} at {n} tokens" for n, c in best.items()) + "."


def tokens_against(content: Content, prefix: str, measure: Measure, baselines: Sequence[TrialRecord]) -> str:
    """One measure over the number of tokens, with these baselines."""
    name = prefix + measure.name
    free = [r for r in baselines if r.name in SHAPE_OF and name in r.values]
    trials = [r for r in content.complete if name in r.values]
    known = [c for c in content.configurations if c.estimate(name)]
    y = around([r.values[name] for r in [*trials, *free]] + [v for c in known for v in _ends(c.estimate(name))],
               HEIGHT - 58, 40)
    x = _tokens_scale(content.sizes)
    ticks = [(x(n), str(n)) for n in content.sizes]
    parts = [frame(x, y, ticks, "tokens (k²)", measure.title)]
    labels = []
    for baseline in SHAPE_OF:
        rows = sorted((r for r in free if r.name == baseline), key=lambda r: r.tokens)
        if rows:
            parts.append(line([(x(r.tokens), y(r.values[name])) for r in rows], f"baseline {baseline}"))
            parts += [_baseline(r, x(r.tokens), y(r.values[name]), name) for r in rows]
            labels.append((y(rows[-1].values[name]), baseline, SHAPE_OF[baseline], "baseline"))
    best = best_at_each(known, name, measure)
    places = {id(c): at for n in content.sizes for c, at in _beside(x(n), best.get(n), [
        c for c in known if c.tokens == n and c.estimate(name).half_width is not None])}
    means = [(places[id(c)], y(c.estimate(name).mean)) for c in best.values()]
    parts.append(line(means, "best"))
    if means:
        labels.append((means[-1][1], "best trained", "circle", "best"))
    marks = [(content.recommended.get(r.tokens) is r, _trial(content, r, x(r.tokens), y(r.values[name]), name))
             for r in trials]
    parts += [mark for recommended, mark in marks if not recommended]
    parts += [_estimated(c, places[id(c)], y, name, c is best.get(c.tokens)) for c in known if id(c) in places]
    parts += [mark for recommended, mark in marks if recommended]
    parts.append(end_labels(labels, WIDTH - 122, LABEL_GAP, HEIGHT - 50))
    return drawing(WIDTH, HEIGHT, "".join(parts), f"{measure.title} against tokens. "
                   f"{_summary(content, prefix, measure)} The table below has every number.", "plot wide-plot")


def _beside(x: float, best: Configuration | None, repeated: Sequence[Configuration]
            ) -> list[tuple[Configuration, float]]:
    """Where means over seeds lie: to the right of their trials, the best first. A single training lies at its own x."""
    if best is not None and best not in repeated:
        return [(best, x), *((c, x + APART * (i + 1)) for i, c in enumerate(repeated))]
    ordered = sorted(repeated, key=lambda c: c is not best)
    return [(c, x + APART * (i + 1)) for i, c in enumerate(ordered)]


def _tokens_scale(sizes: Sequence[int]) -> Scale:
    low, high = sizes[0], sizes[-1]
    margin = (high / low) ** 0.08 if high > low else 1.5
    return Scale(low / margin, high * margin, 62, WIDTH - 136, log=True)


def _ends(e: Estimate) -> tuple[float, float]:
    half = e.half_width or 0.0
    return e.mean - half, e.mean + half


def reading(record: TrialRecord, label: str = "") -> str:
    """What is read at a point: its name, its measures, its settings."""
    values = ", ".join(f"{name} {record.values[name]:.4g}" for name in METRICS if name in record.values)
    settings = "" if record.kind == "baseline" else f"; {settings_text(record.params)}"
    kind = "baseline " if record.kind == "baseline" else ""
    return f"{kind}{record.name}{label}, {record.tokens} tokens: {values}{settings}"


def _trial(content: Content, r: TrialRecord, x: float, y: float, name: str) -> str:
    recommended = content.recommended.get(r.tokens) is r
    on_front = r in content.front
    label = " (recommended)" if recommended else " (front)" if on_front else ""
    return point(x, y, "star" if recommended else "circle", "recommended" if recommended else "trial",
                 reading(r, label), first=recommended, trial=r.trial_id, value=repr(r.values[name]))


def _baseline(r: TrialRecord, x: float, y: float, name: str) -> str:
    return point(x, y, SHAPE_OF.get(r.name, "circle"), f"baseline {r.name}", reading(r), trial=r.trial_id,
                 value=repr(r.values[name]))


def _estimated(c: Configuration, x: float, y: Scale, name: str, best: bool) -> str:
    e = c.estimate(name)
    low, high = _ends(e)
    style = "best" if best else "estimate"
    interval = bar((x, y(low)), (x, y(high)), style) if e.half_width is not None else ""
    text = f"{c.name}, {c.tokens} tokens, {c.evidence}: {name} {shown(e)}"
    return interval + point(x, y(e.mean), "circle", style, text, first=best, value=repr(e.mean))


def _panels(content: Content) -> str:
    found, measures = [], [m for m in MEASURES if m.name in ("perception", "use")]
    measures = [m for m in measures if ("", m) in content.measured]
    for measure in measures:
        for prefix in dict.fromkeys(p for p, m in content.measured if m is measure):
            for hidden in (False, True):
                draw = partial(panel, content, prefix, measure, hidden=hidden)
                panels = "".join(f"<figure><figcaption>{n} tokens</figcaption>{draw(n)}</figure>"
                                 for n in content.sizes)
                keys = {"against": measure.name, "pictures": SPLITS[prefix],
                        "baselines": "hidden" if hidden else "shown"}
                found.append(View(keys, f"<div class=panels>{panels}</div>", extra=hidden))
    note = ("<p>Distortion: left is better. A training is worth its cost where it lies beyond the dashed curve, which "
            "mixes strided and pooled tokens and costs nothing: below it for perception, above it for use.</p>")
    entries = [TRIAL, RECOMMENDED, *_seeds(content), ("line", "mixing", "mixing curve, strided to pooled"),
               *((shape, f"baseline {name}", name) for name, shape in SHAPE_OF.items())]
    return note + legend(entries) + views(_choices(content, "against", measures), found) if found else ""


def panel(content: Content, prefix: str, measure: Measure, tokens: int, hidden: bool = False) -> str:
    """Distortion and `measure` at one number of tokens; `hidden`: without baselines, as near as the trials allow."""
    across, up = f"{prefix}distortion", prefix + measure.name
    rows = [r for r in [*content.complete, *content.baselines]
            if r.tokens == tokens and across in r.values and up in r.values]
    free = {r.name: r for r in rows if r.kind == "baseline"}
    trials = [r for r in rows if r.kind == "trial"]
    known = [(c, c.estimate(across), c.estimate(up)) for c in content.configurations if c.tokens == tokens
             and c.estimate(across) and c.estimate(up)]
    near = [] if hidden and (trials or known) else list(free.values())
    x = around([r.values[across] for r in [*trials, *near]] + [v for _, e, _ in known for v in _ends(e)],
               48, PANEL - 8)
    y = around([r.values[up] for r in [*trials, *near]] + [v for _, _, e in known for v in _ends(e)], PANEL - 46, 30)
    parts = [frame(x, y, x.ticks(4), f"{across.replace('_', ' ')} (FVU)", up.replace("_", " "))]
    curve = [(x(free[n].values[across]), y(free[n].values[up])) for n in CURVE if n in free]
    parts.append(clipped(x, y, line(curve, "mixing")))
    parts += [_baseline(r, x(r.values[across]), y(r.values[up]), up) for name, r in free.items()
              if name in SHAPE_OF and near]
    parts += [_trial(content, r, x(r.values[across]), y(r.values[up]), up) for r in trials]
    parts += [_crossed(c, x, y, (a, b)) for c, a, b in known if b.half_width is not None]
    title = f"Distortion against {measure.name} at {tokens} tokens; the table below has every number."
    return drawing(PANEL, PANEL, "".join(parts), title, "plot panel")


def _crossed(c: Configuration, x: Scale, y: Scale, at: tuple[Estimate, Estimate]) -> str:
    a, b = at
    (left, right), (low, high) = _ends(a), _ends(b)
    text = f"{c.name}, {c.evidence}: distortion {shown(a)}, against {shown(b)}"
    return (bar((x(left), y(b.mean)), (x(right), y(b.mean)), "estimate")
            + bar((x(a.mean), y(low)), (x(a.mean), y(high)), "estimate")
            + point(x(a.mean), y(b.mean), "circle", "estimate", text, across=repr(a.mean), value=repr(b.mean)))


def _numbers(content: Content) -> str:
    names = [prefix + m.name for prefix, m in content.measured]
    heads = ["tokens", "name", "evidence", *names]
    rows = []
    for n in content.sizes:
        rows += [row([n, c.name, c.evidence, *(c.estimate(name) for name in names)], heads)
                 for c in content.configurations if c.tokens == n]
        rows += [row([n, r.name, "baseline", *(r.values.get(name) for name in names)], heads, " class=baseline")
                 for r in content.baselines if r.tokens == n]
    return table(heads, rows, f"Mean over seeds ± half the {CONFIDENCE:.0%} interval, where there are several")
