"""Which compressor to take at each budget of tokens, and where a baseline is the better choice."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from math import isqrt

from toconv.analysis.pareto import REFERENCES
from toconv.analysis.records import TrialRecord, baselines_at, settings_text
from toconv.analysis.seeds import CONFIDENCE, Estimate, SeedGroup, compare
from toconv.command_line import pasteable
from toconv.evaluation.metrics import COST, VALIDATION, Place, names_in
from toconv.report.content import Content
from toconv.report.front_data import Measured
from toconv.report.page.html import Html, command, paragraphs, row, table

# baselines beside a compressor
BESIDE = {name: title.partition(",")[0] for name, title in REFERENCES.items()} | {"strided": "strided tokens"}
SIGNS = {"better": "▲ better than", "worse": "▼ worse than", "not separable": "≈ not separable from"}
HEADLINE = names_in(Place.HEADLINE)

Baselines = Mapping[str, TrialRecord]
Found = Sequence[tuple[Measured, Estimate]]  # what the compressor has, on validation pictures first


def which_compressor(content: Content) -> str:
    if not content.recommended:
        return "<p>None yet: no trial is complete.</p>"
    intro = (
        "<p>At each number of tokens: the trial of the lowest validation distortion. It lies in "
        f"<code>{escape(str(content.paths.recommended))}/k…</code>; what it has, and what costs no training, stands "
        f"below. Where it was trained with several seeds, “not separable” means that their {CONFIDENCE:.0%} interval "
        "holds the baseline’s value; a single training has no interval, and its verdict is a hint.</p>"
    )
    cards = "".join(_card(content, tokens, trial) for tokens, trial in content.recommended.items())
    return intro + _budgets(content) + cards


def _budgets(content: Content) -> str:
    heads = ["tokens", "trial", *HEADLINE, "evidence", "without training, better on"]
    rows = []
    for tokens, trial in content.recommended.items():
        group = content.seed_group(trial)
        found = [pair for pair in _found(content, group) if pair[0].name in HEADLINE]
        rivals = better_without(found, baselines_at(content.baselines, tokens))
        texts = "; ".join(f"{measured.name}: {BESIDE[rival]}" for measured, _, rival, _ in rivals) or "nothing"
        link = Html(f"<a href=#recommended-k{isqrt(tokens)}>{tokens}</a>")
        rows.append(row([link, trial.name, *map(group.estimate, HEADLINE), group.evidence, texts], heads))
    return table(heads, rows, f"The recommended compressors, {VALIDATION.title} pictures", "sortable prose")


def _found(content: Content, group: SeedGroup) -> Found:
    return [(measured, ours) for measured in content.measured if (ours := group.estimate(measured.name))]


def _card(content: Content, tokens: int, trial: TrialRecord) -> str:
    group, k, baselines = content.seed_group(trial), isqrt(tokens), baselines_at(content.baselines, tokens)
    found = _found(content, group)
    return (
        f'<article class=compressor id="recommended-k{k}"><h3>{tokens} tokens ({k}×{k})</h3>'
        f"<p>Trial <b>{escape(trial.name)}</b>: {escape(settings_text(trial.params))}. {_cost(trial)} Judged by "
        f"{group.evidence}.</p>{_commands(content, k, trial)}{_better(found, baselines)}"
        f"{_table(tokens, found, baselines)}</article>"
    )


def _commands(content: Content, k: int, trial: TrialRecord) -> str:
    if not trial.kept:
        return "<p>Its checkpoint was not kept, so that there is nothing to load.</p>"
    folder = content.paths.recommended_at(k)
    in_python = f"import toconv\ncompressor = toconv.load({json.dumps(str(folder), ensure_ascii=False)})"
    in_shell = pasteable(["toconv", "compress", "PICTURE", "--checkpoint", str(folder)])
    return command(in_shell) + command(in_python)


def _cost(trial: TrialRecord) -> str:
    flops, numbers = map(trial.values.get, COST)
    cost = f"{flops / 1e9:.3g} GFLOPs a picture, {numbers / 1e6:.3g} M parameters, " if flops and numbers else ""
    return f"{cost}{trial.device_seconds or 0:.1f} device-seconds of training."


def better_without(found: Found, baselines: Baselines) -> list[tuple[Measured, Estimate, str, float]]:
    """What the compressor has, and the best of BESIDE with its value, wherever that is better."""
    better = []
    for measured, ours in found:
        theirs = _values(measured, {name: baselines[name] for name in BESIDE if name in baselines})
        worse = {name: v for name, v in theirs.items() if compare(ours, v, measured.metric) == "worse"}
        if worse:
            better.append((measured, ours, *_best(measured, worse)))
    return better


def _values(measured: Measured, baselines: Baselines) -> dict[str, float]:
    return {name: r.values[measured.name] for name, r in baselines.items() if measured.name in r.values}


def _best(measured: Measured, values: Mapping[str, float]) -> tuple[str, float]:
    """The name of the best of them, and its value."""
    best = measured.metric.best(values.values())
    return next(name for name, value in values.items() if value == best), best


def _better(found: Found, baselines: Baselines) -> str:
    lines = [
        f"{m.metric.words} ({m.split.title}): {BESIDE[rival]}, {value:.4g} against {ours.mean:.4g}"
        for m, ours, rival, value in better_without(found, baselines)
    ]
    if lines:
        return f"<div class=note><p>Better without any training:</p>{paragraphs(lines)}</div>"
    return "<p>No baseline beside it is better on any metric.</p>" if baselines else ""


def _table(tokens: int, found: Found, baselines: Baselines) -> str:
    heads = ["metric", "pictures", "this compressor", "beside the best baseline", *BESIDE.values()]
    rows = []
    for measured, ours in found:
        metric, values, verdict = measured.metric, _values(measured, baselines), ""
        if values:
            rival, best = _best(measured, values)
            verdict = f"{SIGNS[compare(ours, best, metric)]} {rival} ({best:.4g})"
        name = Html(f"{metric.words} <span class=direction>{'↓' if metric.lower_is_better else '↑'}</span>")
        rows.append(row([name, measured.split.title, ours, verdict, *map(values.get, BESIDE)], heads))
    return table(heads, rows, f"{tokens} tokens; ↓ lower is better, ↑ higher is better", "fixed")
