"""Every row of results.csv, sortable."""

from toconv.analysis.results import FACTS, FIRST, facts, other_metrics
from toconv.analysis.seeds import Estimate
from toconv.report.content import Content
from toconv.report.page.html import cell, table

RECOGNISED_BY = ("name", "kind", "state", "tokens")  # the first columns


def every_row(content: Content) -> str:
    rest = [name for name in FACTS if name not in RECOGNISED_BY]
    metrics = [*FIRST, "device_seconds"]
    heads = [*RECOGNISED_BY, *metrics, *content.settings, *rest, *other_metrics(content.records), "reason"]
    rows = []
    for r in content.records:
        more = {"reason": r.reason, "device_seconds": r.device_seconds}
        metrics_ = {name: Estimate(v, None, True) if r.is_given(name) else v for name, v in r.values.items()}
        values = {**facts(r), **r.params, **metrics_, **more}
        style = "front" if r.trial_id in content.front else r.kind
        cells = "".join(cell(values.get(name), name) for name in heads)
        rows.append(f'<tr class={style} data-trial="{r.trial_id}">{cells}</tr>')
    note = "<p>Bold: the front of the sweep’s objectives. A heading sorts.</p>"
    return note + table(heads, rows, "The rows of results.csv", "sortable rows")
