"""Every row of results.csv, sortable."""

from __future__ import annotations

from toconv.sweep.page.content import Content
from toconv.sweep.page.html import cell, section, table
from toconv.sweep.report import FACTS, METRICS

FIRST = ("name", "kind", "state", "tokens")  # then what was searched, then METRICS; the rest follows


def every_row(content: Content) -> str:
    metrics = sorted({name for r in content.records for name in r.values} - set(METRICS))
    rest = [name for name in FACTS if name not in FIRST]
    settings = content.settings
    heads = [*FIRST, *METRICS, "device_seconds", *settings, *rest, *metrics, "reason"]
    best = {r.trial_id for r in content.front}
    rows = []
    for r in content.records:
        facts = {**{name: getattr(r, name) for name in FACTS}, **r.params, **r.values, "reason": r.reason,
                 "device_seconds": r.device_seconds}
        style = "front" if r.trial_id in best else r.kind
        cells = "".join(cell(facts.get(name), name) for name in heads)
        rows.append(f'<tr class={style} data-trial="{r.trial_id}">{cells}</tr>')
    return section("rows", "Every row", "<p>Bold: the front of the sweep’s objectives. A heading sorts.</p>"
                   + table(heads, rows, "The rows of results.csv", "sortable rows"))
