"""report.html: self-contained, opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from toconv.paths import write_atomic
from toconv.sweep.figures import distortion_against_perception, tokens_against_distortion
from toconv.sweep.finalists import CONFIDENCE, TESTED, rows, summarise
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import FACTS, METRICS, against, front

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1f2937;background:#fff}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}
p.facts{color:#64748b;margin-top:0}figure{margin:0;overflow-x:auto}figcaption{color:#64748b;font-size:.9rem}
svg{max-width:100%;height:auto}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th{cursor:pointer;position:sticky;top:0;background:#f8fafc}td.text{text-align:left}
tr.front td{font-weight:600}tr.baseline td{color:#64748b}
"""
SORT = """
document.querySelectorAll('table.sortable th').forEach((th,i)=>th.onclick=()=>{
 const body=th.closest('table').tBodies[0],up=th.dataset.up!=='1';th.dataset.up=up?'1':'0';
 const value=r=>{const t=r.cells[i].dataset.value??r.cells[i].textContent,n=parseFloat(t);return isNaN(n)?t:n};
 const order=(a,b)=>{const x=value(a),y=value(b);return (x>y?1:x<y?-1:0)*(up?1:-1)};
 [...body.rows].sort(order).forEach(r=>body.append(r))});
"""


def write_report(
    path: Path, name: str, facts: Sequence[str], records: Sequence[TrialRecord], objectives: Mapping[str, str],
    importances: Mapping[str, Mapping[str, float]],
) -> None:
    """Fronts with baselines, every row, importances, what was learnt and what to do next."""
    best = front(records, objectives)
    sections = [f"<h1>{escape(name)}</h1><p class=facts>{'<br>'.join(map(escape, facts))}</p>",
                "<h2>What was learnt</h2>" + _list(against(records, "pool") + against(records, "pca")),
                "<h2>What to do next</h2>" + _list(next_steps(records, best))]
    if any(r.values for r in records):
        sections += [
            _figure("Tokens against distortion", tokens_against_distortion(records, best),
                    "Lower is better. Every point is the last epoch of a trial, on pictures that it did not train on."),
            _figure("Distortion against perception", distortion_against_perception(records, best),
                    "Down and left is better. A trial is worth its training where it lies below the dashed curve, "
                    "which costs nothing.")]
    if summarise(records):
        sections.append("<h2>The front on the test pictures</h2>" + _finalists(records))
    sections += [_importances(importances), "<h2>Every row</h2>" + _table(records, best)]
    write_atomic(path, f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(name)}</title>"
                       f"<style>{STYLE}</style><body>{''.join(sections)}<script>{SORT}</script></body></html>")


def next_steps(records: Sequence[TrialRecord], best: Sequence[TrialRecord]) -> list[str]:
    """Computed from the results alone."""
    steps = []
    for line in against(records, "pool"):
        if "NOT below" in line:
            steps.append(f"{line}: give these trials more epochs or a lower loss.wgan_weight.")
    for state, advice in (("failed", "see its reason in results.csv and run it with --debug"),
                          ("running", "start the same command again to go on with it")):
        rows = [r.name for r in records if r.state == state]
        if rows:
            steps.append(f"{len(rows)} trial(s) {state} ({', '.join(rows[:5])}): {advice}.")
    if best:
        if not summarise(records):
            steps.append("A claim about a single trial needs seeds: finalists.seeds=3 runs the front again with "
                         "fresh ones, on the test pictures.")
        steps.append(f"Use a compressor: python -m toconv.compress IMAGE --checkpoint {best[0].folder} "
                     f"({best[0].tokens} tokens; the table has the folders of the others).")
    return steps


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _figure(title: str, svg: str, caption: str) -> str:
    return f"<h2>{title}</h2><figure>{svg}<figcaption>{caption}</figcaption></figure>"


def _finalists(records: Sequence[TrialRecord]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("tokens", "name", "seeds", *TESTED))
    body = "".join(f"<tr class={'front' if row[2] else 'baseline'}>{''.join(map(_cell, row))}</tr>"
                   for row in rows(records))
    return (f"<p>Fresh seeds, pictures that no trial saw. Mean ± half the {CONFIDENCE:.0%} confidence interval over "
            f"seeds.</p><div class=wide><table class=sortable><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
            "</table></div>")


def _importances(importances: Mapping[str, Mapping[str, float]]) -> str:
    if not importances:
        return ""
    found = [(cell, setting, share) for cell, shares in importances.items() for setting, share in shares.items()]
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in found)
    return ("<h2>Importances</h2><p>Share of the variance of distortion between a cell's trials that each searched "
            "setting explains (fANOVA). With few trials a hint, no finding.</p><div class=wide><table class=sortable>"
            f"<thead><tr><th>cell</th><th>setting</th><th>share</th></tr></thead><tbody>{body}</tbody></table></div>")


def _table(records: Sequence[TrialRecord], best: Sequence[TrialRecord]) -> str:
    fronts = {r.trial_id for r in best}
    settings = list(dict.fromkeys(key for r in records if r.kind != "baseline" for key in r.params))
    heads = [*FACTS, *METRICS, "seconds", *(key.rsplit(".", 1)[-1] for key in settings), "reason"]
    body = []
    for record in records:
        style = "front" if record.trial_id in fronts else record.kind
        cells = [getattr(record, name) for name in FACTS] + [record.values.get(name) for name in METRICS]
        cells += [record.device_seconds, *(record.params.get(key) for key in settings), record.reason]
        body.append(f"<tr class={style}>{''.join(map(_cell, cells))}</tr>")
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    return (f"<p>Bold: the front. Click a heading to sort.</p><div class=wide><table class=sortable><thead><tr>{head}"
            f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>")


def _cell(value: object) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, float):
        return f"<td data-value='{value!r}'>{value:.4g}</td>"
    return f"<td class={'text' if isinstance(value, str) else 'number'}>{escape(str(value))}</td>"
