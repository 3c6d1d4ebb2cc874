"""The first thing on the page: at each number of tokens, what to take for which reader, and why."""

from html import escape

from toconv.analysis.advice import PURPOSES, advice
from toconv.report.content import Content
from toconv.report.page.html import Html, row, table


def what_to_take(content: Content) -> str:
    found = advice(content.records)
    if not found:
        return "<p>No trial is complete: there is nothing to choose from yet.</p>"
    heads = ["tokens", "for", "take", "why"]
    rows = []
    for a in found:
        name = Html(f"<strong>{escape(a.take)}</strong>{'' if a.trained else ', not trained'}")
        rows.append(row([a.tokens, a.purpose, name, a.why], heads))
    purposes = " and ".join(f"{purpose} by {metric.words}" for purpose, metric in PURPOSES.items())
    return table(heads, rows, f"Chosen on validation pictures: {purposes}", "prose")
