"""Every row of results.csv, sortable."""

from toconv.analysis.results import FACTS, FIRST, facts, other_metrics
from toconv.analysis.seeds import Estimate
from toconv.evaluation.metrics import ENCODER_SHARE
from toconv.report.content import Content
from toconv.report.page.html import cell, table

NO_GRID = (
    "Without a value in distortion_ridge: a set of tokens and no grid, which the common decoder cannot read; it is "
    "restored by what goes beside the tokens, of which no column counts the bits."
)
SAVES = (
    "encoder_share: the smaller picture saves the encoder too, which reads that share of its tokens; all other rows "
    "need all of them."
)
RECOGNISED_BY = ("name", "kind", "state", "tokens")  # the first columns


def every_row(content: Content) -> str:
    rest = [name for name in FACTS if name not in RECOGNISED_BY]
    metrics = [*FIRST, "device_seconds"]
    heads = [*RECOGNISED_BY, *metrics, *content.settings, *rest, *other_metrics(content.records)]
    heads += [name for name in ("violates", "steered") if any(getattr(r, name) for r in content.records)]
    heads.append("reason")
    rows = []
    for r in content.records:
        more = {"reason": r.reason or r.not_evaluated, "device_seconds": r.device_seconds}
        more |= {"steered": r.steered or None, "violates": r.violates or None}
        metrics_ = {name: Estimate(v, None, True) if r.is_given(name) else v for name, v in r.values.items()}
        values = {**facts(r), **r.params, **metrics_, **more}
        style = "front" if r.trial_id in content.front else r.kind
        cells = "".join(cell(values.get(name), name) for name in heads)
        rows.append(f'<tr class={style} data-trial="{r.trial_id}">{cells}</tr>')
    return f"<p>{_note(content)}</p>" + table(heads, rows, "The rows of results.csv", "sortable rows")


def _note(content: Content) -> str:
    notes = {
        NO_GRID: not all(r.gives_grid for r in content.records),
        SAVES: any(ENCODER_SHARE in r.values for r in content.baselines),
    }
    front = (
        "Bold: the front of the sweep’s objectives. A heading sorts; two trials that are chosen stand "
        "<a href=#side-by-side>side by side</a>."
    )
    return " ".join([front, *(note for note, holds in notes.items() if holds)])
