"""The tables that a sweep ends with, in the terminal: 80 columns, one screen; results.csv and the report have all."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from rich.table import Table
from rich.text import Text

from toconv.analysis.advice import FIDELITY, READER, advice
from toconv.analysis.pareto import REFERENCES, recommended
from toconv.analysis.records import Kind, TrialRecord, baselines_at
from toconv.analysis.results import own_metrics
from toconv.analysis.seeds import CONFIDENCE, summarise
from toconv.evaluation.metrics import GIVEN, GIVEN_NOTE, TEST, Place, names_in
from toconv.progress import console

WIDEST_NAME, WIDEST_METRIC = 12, 10  # columns; longer words of a heading stand below each other
MOST_METRICS = 5
TESTED = [TEST.prefix + metric.name for metric in (FIDELITY, READER)]  # with their intervals, as many as fit
MOST_LINES = 18  # of a table
BASELINES = [*REFERENCES]  # beside what was trained; the others are in results.csv


def show_results(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> None:
    """Both tables, and what to take."""
    for table in (best_table(records, objectives), finalists_table(records)):
        if table:
            console.print(table)
    for a in advice(records):
        console.print(f"{a.tokens} tokens, for {a.purpose}: {a.take}{'' if a.trained else ', not trained'} ({a.why})")


def _table(title: str, columns: Sequence[str], widest: int) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=None, padding=(0, 2, 0, 0))
    table.pad_edge = False
    table.add_column("tokens", justify="right")
    table.add_column("name", overflow="fold", max_width=WIDEST_NAME)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right", max_width=widest)
    return table


def best_table(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> Table:
    """The trial of lowest distortion at each number of tokens, beside the baselines that it is held against; these are
    left out where all numbers of tokens would not fit with them."""
    columns, best = _columns(records, objectives), recommended(records)
    table = _table("the best at each number of tokens, and the baselines there", columns, WIDEST_METRIC)
    sizes = sorted({*best, *(r.tokens for r in records if r.kind == Kind.BASELINE)})
    beside = BASELINES if len(sizes) * (1 + len(BASELINES)) <= MOST_LINES else []
    for tokens in islice(sizes, MOST_LINES):
        if tokens in best:
            table.add_row(*_cells(best[tokens], columns), style="bold")
        for record in _baselines(records, tokens, beside):
            table.add_row(*_cells(record, columns), style="dim")
    said = ", ".join(f"{name}: {REFERENCES[name]}" for name in beside)
    table.caption = "; ".join(filter(None, (said, _given(best.values(), columns))))
    return table


def _columns(records: Sequence[TrialRecord], objectives: Mapping[str, str]) -> list[str]:
    """Objectives and the user's own measures before the rest, as many as fit, in their usual order."""
    every = [*names_in(Place.TABLE), *own_metrics(records)]
    wanted = [name for name in every if name in objectives or name in own_metrics(records)]
    chosen = [*wanted, *(name for name in every if name not in wanted)][:MOST_METRICS]
    return [name for name in every if name in chosen]


def _baselines(records: Sequence[TrialRecord], tokens: int, names: Iterable[str]) -> list[TrialRecord]:
    there = baselines_at(records, tokens)
    return [there[name] for name in names if name in there]


def _cells(record: TrialRecord, columns: Sequence[str]) -> list[Text]:
    return [Text(text) for text in (str(record.tokens), record.name, *_numbers(record, columns))]


def _numbers(record: TrialRecord, names: Sequence[str]) -> list[str]:
    """A dash for what cannot be measured of a baseline that gives no grid."""
    absent = "—" if record.kind == Kind.BASELINE else ""
    mark = {name: GIVEN if record.is_given(name) else "" for name in names}
    return [f"{record.values[name]:.4f}{mark[name]}" if name in record.values else absent for name in names]


def _given(records: Iterable[TrialRecord], names: Sequence[str]) -> str | None:
    return GIVEN_NOTE if any(r.is_given(name) for r in records for name in names) else None


def finalists_table(records: Sequence[TrialRecord]) -> Table | None:
    """The front on the test pictures; None where there are no finalists."""
    finalists = summarise(records)
    title = f"the front on the test pictures: mean over seeds ± half its {CONFIDENCE:.0%} interval"
    table = _table(title, ("seeds", *TESTED), 2 * WIDEST_METRIC)
    for tokens in sorted({f.trial.tokens for f in finalists}):
        for f in (f for f in finalists if f.trial.tokens == tokens):
            values = [str(f.metrics[name]) for name in TESTED]
            table.add_row(*map(Text, [str(tokens), f.trial.name, str(f.seeds), *values]), style="bold")
        for r in _baselines(records, tokens, BASELINES):
            table.add_row(*map(Text, [str(tokens), r.name, "", *_numbers(r, TESTED)]), style="dim")
    table.caption = _given((f.trial for f in finalists), TESTED)
    return table if finalists else None
