"""Results → results.csv, and the front as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from toconv.paths import write_atomic
from toconv.sweep.front import costs, nondominated
from toconv.sweep.records import TrialRecord

FACTS = ("trial_id", "name", "kind", "state", "cell", "tokens")
BASELINE_NAMES = {"pool": "average pooling", "pca": "per-block PCA, the best linear code"}
METRICS = ("distortion", "distortion_ridge", "perception", "use", "cosine")  # these first; the rest follows by name


def write_results(path: Path, records: Sequence[TrialRecord], run_ids: Mapping[str, str], searched: Sequence[str]
                  ) -> None:
    """One row a record: facts, searched settings, metrics, device_seconds, mlflow_run_id."""
    others = sorted({name for record in records for name in record.values} - set(METRICS))
    columns = [*FACTS, *searched, *METRICS, *others, "device_seconds", "mlflow_run_id"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records:
        seconds = "" if record.device_seconds is None else record.device_seconds
        writer.writerow({**{name: getattr(record, name) for name in FACTS}, **record.params, **record.values,
                         "device_seconds": seconds, "mlflow_run_id": run_ids.get(record.trial_id, "")})
    write_atomic(path, text.getvalue())


def front(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> list[TrialRecord]:
    """Complete trials that no other complete trial beats: as few tokens, as good in every objective, better in
    one. By rising tokens, then by the first objective."""
    complete = {r.trial_id: r for r in records if r.kind == "trial" and r.state == "complete"}
    points = {name: costs(r.tokens, r.values, objectives) for name, r in complete.items()}
    return [complete[name] for name in sorted(nondominated(points), key=points.get)]


def recommended(records: Sequence[TrialRecord]) -> dict[int, TrialRecord]:
    """{tokens: the complete trial of the lowest validation distortion}: which compressor to take at each budget."""
    complete = [r for r in records if r.kind == "trial" and r.state == "complete"]
    return {tokens: min((r for r in complete if r.tokens == tokens), key=lambda r: r.values["distortion"])
            for tokens in sorted({r.tokens for r in complete})}


def front_table(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> Table:
    """The front, with the baselines of each k below its trials."""
    table = Table(title="front of tokens against fidelity, and the baselines at the same tokens", title_justify="left")
    for name in ("tokens", "name", *METRICS, "seconds"):
        table.add_column(name, justify="left" if name == "name" else "right")
    table.add_column("settings", overflow="fold")
    best = front(records, objectives)
    baselines = [r for r in records if r.kind == "baseline"]
    for tokens in sorted({r.tokens for r in [*best, *baselines]}):
        for record in (r for r in best if r.tokens == tokens):
            table.add_row(*_cells(record), style="bold")
        for record in (r for r in baselines if r.tokens == tokens):
            table.add_row(*_cells(record), style="dim")
        table.add_section()
    return table


def _cells(record: TrialRecord) -> list[str]:
    values = [f"{record.values[name]:.4f}" if name in record.values else "" for name in METRICS]
    settings = "" if record.kind == "baseline" else settings_text(record.params)
    seconds = "" if record.device_seconds is None else f"{record.device_seconds:.1f}"
    return [str(record.tokens), record.name, *values, seconds, settings]


def settings_text(params: Mapping[str, Any]) -> str:
    """`lambda_gp=3.2 n_critic=5`"""
    return " ".join(f"{key.rsplit('.', 1)[-1]}={value:.3g}" if isinstance(value, float)
                    else f"{key.rsplit('.', 1)[-1]}={value}" for key, value in params.items())


def against(records: Sequence[TrialRecord], baseline: str) -> list[str]:
    """For each number of tokens one sentence: the best trial's distortion against that baseline's."""
    lines = []
    for tokens in sorted({r.tokens for r in records}):
        here = [r for r in records if r.tokens == tokens and r.state == "complete"]
        theirs = next((r.values["distortion"] for r in here if r.name == baseline and r.kind == "baseline"), None)
        trials = [r for r in here if r.kind == "trial"]
        if theirs is None or not trials:
            continue
        best = min(trials, key=lambda r: r.values["distortion"])
        ours = best.values["distortion"]
        verdict = f"{100 * (1 - ours / theirs):.1f} % below" if ours < theirs else "NOT below"
        lines.append(f"{tokens} tokens: best distortion {ours:.4f} ({best.name}), {verdict} {BASELINE_NAMES[baseline]} "
                     f"({theirs:.4f})")
    return lines
