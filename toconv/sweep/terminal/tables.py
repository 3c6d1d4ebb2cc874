"""The tables that a sweep ends with, for the terminal."""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from toconv.analysis.advice import advice
from toconv.analysis.pareto import REFERENCES, against, front
from toconv.analysis.records import Kind, TrialRecord, baselines_at, settings_text
from toconv.analysis.results import own_metrics
from toconv.analysis.seeds import CONFIDENCE, TESTED, summarise
from toconv.evaluation.metrics import GIVEN, GIVEN_NOTE, Place, names_in
from toconv.progress import console


def show_results(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> None:
    """Both tables, what the trained ones are against each reference, and what to take."""
    for table in (front_table(records, objectives), finalists_table(records)):
        if table:
            console.print(table)
    for line in (line for baseline in REFERENCES for line in against(records, baseline)):
        console.print(line)
    for a in advice(records):
        console.print(f"{a.tokens} tokens, for {a.purpose}: {a.take}{'' if a.trained else ', not trained'} ({a.why})")


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "name" else "right")
    return table


def front_table(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> Table:
    """The front, with the baselines of each k below its trials."""
    table = _table(
        "front of tokens against fidelity, and the baselines at the same tokens",
        ("tokens", "name", *names_in(Place.TABLE), *own_metrics(records), "seconds"),
    )
    table.add_column("settings", overflow="fold")
    best, own = front(records, objectives), own_metrics(records)
    for tokens in sorted({r.tokens for r in [*best, *(r for r in records if r.kind == Kind.BASELINE)]}):
        for record in (r for r in best if r.tokens == tokens):
            table.add_row(*map(Text, [*_cells(record, own), settings_text(record.params)]), style="bold")
        for record in baselines_at(records, tokens).values():
            table.add_row(*map(Text, [*_cells(record, own), ""]), style="dim")
        table.add_section()
    table.caption = _caption(best, names_in(Place.TABLE))
    return table


def _cells(record: TrialRecord, own: Sequence[str]) -> list[str]:
    seconds = "" if record.device_seconds is None else f"{record.device_seconds:.1f}"
    return [str(record.tokens), record.name, *_numbers(record, [*names_in(Place.TABLE), *own]), seconds]


def _numbers(record: TrialRecord, names: Sequence[str]) -> list[str]:
    """A dash for what cannot be measured of a baseline that gives no grid."""
    absent = "—" if record.kind == Kind.BASELINE else ""
    mark = {name: GIVEN if record.is_given(name) else "" for name in names}
    return [f"{record.values[name]:.4f}{mark[name]}" if name in record.values else absent for name in names]


def _caption(records: Iterable[TrialRecord], names: Sequence[str]) -> str | None:
    return GIVEN_NOTE if any(r.is_given(name) for r in records for name in names) else None


def finalists_table(records: Sequence[TrialRecord]) -> Table | None:
    """The front on the test pictures; None where there are no finalists."""
    finalists = summarise(records)
    table = _table(
        f"the front on the test pictures: mean over seeds ± half its {CONFIDENCE:.0%} interval",
        ("tokens", "name", "seeds", *TESTED),
    )
    for tokens in sorted({f.trial.tokens for f in finalists}):
        for f in (f for f in finalists if f.trial.tokens == tokens):
            values = [str(f.metrics[name]) for name in TESTED]
            table.add_row(*map(Text, [str(tokens), f.trial.name, str(f.seeds), *values]), style="bold")
        for r in baselines_at(records, tokens).values():
            table.add_row(*map(Text, [str(tokens), r.name, "", *_numbers(r, TESTED)]), style="dim")
    table.caption = _caption((f.trial for f in finalists), TESTED)
    return table if finalists else None
