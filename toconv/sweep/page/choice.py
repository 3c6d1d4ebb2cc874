"""Which compressor to take at each budget of tokens, and where a baseline is the better choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from toconv.sweep.configurations import MEASURES, SPLITS, Measure, compare
from toconv.sweep.finalists import CONFIDENCE, Estimate
from toconv.sweep.page.content import Content
from toconv.sweep.page.html import Html, command, paragraphs, row, section, table
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import settings_text

REFERENCES = {"pool": "average pooling", "pca": "per-block PCA", "strided": "strided tokens"}  # beside a compressor
SIGNS = {"better": "▲ better than", "worse": "▼ worse than", "not separable": "≈ not separable from"}
FIRST = ("distortion", "perception", "use")  # in the table of all budgets

Found = Sequence[tuple[str, Measure, Estimate]]  # prefix of the split, measure, what the compressor has


def which_compressor(content: Content) -> str:
    title = "Which compressor to take"
    if not content.recommended:
        return section("take", title, "<p>None yet: no trial is complete.</p>")
    intro = ("<p>At each number of tokens: the trial of the lowest validation distortion. It lies in "
             f"<code>{escape(_folder(content))}/k…</code>; what it has, and what costs no training, stands below. "
             f"Where it was trained with several seeds, “not separable” means that their {CONFIDENCE:.0%} interval "
             "holds the baseline’s value; a single training has no interval, and its verdict is a hint.</p>")
    cards = "".join(_card(content, tokens, trial) for tokens, trial in content.recommended.items())
    return section("take", title, intro + _budgets(content) + cards)


def _folder(content: Content) -> str:
    return f"outputs/{content.sweep.file.name}/front"


def _budgets(content: Content) -> str:
    heads = ["tokens", "trial", *FIRST, "evidence", "without training, better on"]
    rows = []
    for tokens, trial in content.recommended.items():
        chosen, free = content.configuration(trial), _free(content, tokens)
        found = [("", m, chosen.estimate(m.name)) for m in MEASURES if m.name in FIRST and chosen.estimate(m.name)]
        rivals = "; ".join(f"{m.name}: {REFERENCES[rival]}" for _, m, rival, _ in better_without(found, free))
        link = Html(f"<a href=#take-{round(tokens**0.5)}>{tokens}</a>")
        rows.append(row([link, trial.name, *(chosen.estimate(name) for name in FIRST), chosen.evidence,
                         rivals or "nothing"], heads))
    return table(heads, rows, "The recommended compressors, validation pictures", "sortable prose")


def _free(content: Content, tokens: int) -> dict[str, TrialRecord]:
    return {r.name: r for r in content.baselines if r.tokens == tokens}


def _card(content: Content, tokens: int, trial: TrialRecord) -> str:
    chosen, k, free = content.configuration(trial), round(tokens**0.5), _free(content, tokens)
    folder = f"{_folder(content)}/k{k}"
    use = (command(f"python -m toconv.compress PICTURE --checkpoint {folder}")
           + command(f'import toconv\ncompressor = toconv.load("{folder}")') if trial.kept else
           "<p>Its checkpoint was not kept, so that there is nothing to load.</p>")
    found = [(prefix, m, e) for prefix, m in content.measured if (e := chosen.estimate(prefix + m.name))]
    return (f'<article class=take id="take-{k}"><h3>{tokens} tokens ({k}×{k})</h3>'
            f"<p>Trial <b>{escape(trial.name)}</b>: {escape(settings_text(trial.params))}. {_cost(trial)} Judged by "
            f"{chosen.evidence}.</p>{use}{_honest(found, free)}"
            f"{_table(tokens, found, free)}</article>")


def _cost(trial: TrialRecord) -> str:
    flops, numbers = (trial.values.get(f"compressor_{name}") for name in ("flops", "parameters"))
    cost = f"{flops / 1e9:.3g} GFLOPs a picture, {numbers / 1e6:.3g} M parameters, " if flops and numbers else ""
    return f"{cost}{trial.device_seconds or 0:.1f} device-seconds of training."


def better_without(found: Found, free: Mapping[str, TrialRecord]) -> list[tuple[str, Measure, str, float]]:
    """(prefix, measure, baseline, its value) wherever a reference baseline is better than the compressor."""
    lines = []
    for prefix, measure, ours in found:
        theirs = {name: free[name].values[prefix + measure.name] for name in REFERENCES
                  if name in free and prefix + measure.name in free[name].values}
        worse = {name: v for name, v in theirs.items() if compare(ours, v, measure) == "worse"}
        if worse:
            value = measure.best(worse.values())
            lines.append((prefix, measure, next(name for name, v in worse.items() if v == value), value))
    return lines


def _honest(found: Found, free: Mapping[str, TrialRecord]) -> str:
    ours = {(prefix, measure): e for prefix, measure, e in found}
    lines = [f"{measure.name.replace('_', ' ')} ({SPLITS[prefix]}): {REFERENCES[rival]}, {value:.4g} against "
             f"{ours[prefix, measure].mean:.4g}" for prefix, measure, rival, value in better_without(found, free)]
    if not lines:
        return "<p>No baseline beside it is better on any measure.</p>" if free else ""
    return f"<div class=honest><p>Better without any training:</p>{paragraphs(lines)}</div>"


def _table(tokens: int, found: Found, free: Mapping[str, TrialRecord]) -> str:
    heads = ["measure", "pictures", "this compressor", "beside the best baseline", *REFERENCES.values()]
    rows = []
    for prefix, measure, ours in found:
        name = prefix + measure.name
        values = {n: r.values[name] for n, r in free.items() if name in r.values}
        best = measure.best(values.values()) if values else None
        rival = next((n for n, v in values.items() if v == best), "")
        verdict = f"{SIGNS[compare(ours, best, measure)]} {rival} ({best:.4g})" if values else ""
        way = f"{measure.name.replace('_', ' ')} <span class=way>{'↓' if measure.lower else '↑'}</span>"
        rows.append(row([Html(way), SPLITS[prefix], ours, verdict, *(values.get(n) for n in REFERENCES)], heads))
    return table(heads, rows, f"{tokens} tokens; ↓ lower is better, ↑ higher is better", "fixed")
