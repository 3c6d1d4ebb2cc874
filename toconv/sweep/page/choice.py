"""Which compressor to take at each budget of tokens, and where a baseline is the better choice."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from toconv.sweep.configurations import SPLITS, Measure, compare
from toconv.sweep.finalists import CONFIDENCE, Estimate
from toconv.sweep.page.content import Content
from toconv.sweep.page.html import Html, command, paragraphs, row, section, table
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import settings_text

REFERENCES = ("pool", "pca", "strided")  # whose values stand beside a compressor's
SIGNS = {"better": "▲ better than", "worse": "▼ worse than", "not separable": "≈ not separable from"}
TITLES = {"pool": "average pooling", "pca": "per-block PCA", "strided": "strided tokens"}


def which_compressor(content: Content) -> str:
    if not content.recommended:
        return section("take", "Which compressor to take", "<p>None yet: no trial is complete.</p>")
    intro = (f"<p>At each number of tokens: the trial of the lowest validation distortion, beside what costs no "
             f"training. A verdict on several seeds says “not separable” where the {CONFIDENCE:.0%} interval holds the "
             f"baseline’s value; one on a single training has no interval and is a hint.</p>")
    return section("take", "Which compressor to take", intro + "".join(
        _card(content, tokens, trial) for tokens, trial in content.recommended.items()))


def _card(content: Content, tokens: int, trial: TrialRecord) -> str:
    chosen, k = content.configuration(trial), round(tokens**0.5)
    free = {r.name: r for r in content.baselines if r.tokens == tokens}
    folder = f"outputs/{content.sweep.file.name}/front/k{k}"
    use = (f"python -m toconv.compress PICTURE --checkpoint {folder}\n\n"
           f"# in Python\nimport toconv\ncompressor = toconv.load(\"{folder}\")")
    kept = "" if trial.kept else ("<p>Its checkpoint was not kept: it is not on the front of this sweep’s objectives."
                                  "</p>")
    found = [(prefix, m, chosen.estimate(prefix + m.name)) for prefix, m in content.measured]
    found = [(prefix, m, e) for prefix, m, e in found if e is not None]
    return (f'<article class=take id="take-{k}"><h3>{tokens} tokens ({k}×{k})</h3>'
            f"<p>Trial <b>{escape(trial.name)}</b>: {escape(settings_text(trial.params))}. {_cost(trial)} Judged by "
            f"{chosen.evidence}.</p>{command(use)}{kept}{paragraphs(honest(found, free), 'honest')}"
            f"{_table(tokens, found, free)}</article>")


def _cost(trial: TrialRecord) -> str:
    flops, numbers = (trial.values.get(f"compressor_{name}") for name in ("flops", "parameters"))
    cost = f"{flops / 1e9:.3g} GFLOPs a picture, {numbers / 1e6:.3g} M parameters, " if flops and numbers else ""
    return f"{cost}{trial.device_seconds or 0:.0f} device-seconds of training."


def honest(found: Sequence[tuple[str, Measure, Estimate]], free: dict[str, TrialRecord]) -> list[str]:
    """A sentence for each measure on which a reference baseline is better than the compressor."""
    lines = []
    for prefix, measure, ours in found:
        name = prefix + measure.name
        rivals = [n for n in REFERENCES if n in free and name in free[n].values
                  and compare(ours, free[n].values[name], measure) == "worse"]
        if rivals:
            value = measure.best(free[n].values[name] for n in rivals)
            best = next(n for n in rivals if free[n].values[name] == value)
            lines.append(f"{measure.name.replace('_', ' ')}, {SPLITS[prefix]} pictures: {TITLES[best]} is better, "
                         f"{value:.4g} against {ours.mean:.4g}, without any training.")
    return lines


def _table(tokens: int, found: Sequence[tuple[str, Measure, Estimate]], free: dict[str, TrialRecord]) -> str:
    heads = ["measure", "pictures", "this compressor", *(TITLES[n] for n in REFERENCES), "best baseline", "verdict"]
    rows = []
    for prefix, measure, ours in found:
        name = prefix + measure.name
        values = {n: r.values[name] for n, r in free.items() if name in r.values}
        best = measure.best(values.values()) if values else None
        rival = next((n for n, v in values.items() if v == best), "")
        verdict = f"{SIGNS[compare(ours, best, measure)]} {rival}" if values else ""
        shown = f"{rival} {best:.4g}" if values else ""
        way = f"{measure.name.replace('_', ' ')} <span class=way>{'↓' if measure.lower else '↑'}</span>"
        rows.append(row([Html(way), SPLITS[prefix], ours, *(values.get(n) for n in REFERENCES), shown, verdict], heads))
    return table(heads, rows, f"{tokens} tokens; ↓ lower is better, ↑ higher is better")

