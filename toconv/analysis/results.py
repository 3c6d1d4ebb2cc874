"""results.csv: a row for each trial, finalist and baseline. Written and read here."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from toconv.analysis.records import Kind, State, TrialRecord
from toconv.errors import DamagedFile, RequestError, told
from toconv.evaluation.metrics import Place, names_in
from toconv.paths import write_atomic
from toconv.setting_names import parse_setting
from toconv.state_files import read_bytes

FACTS = ("trial_id", "name", "kind", "state", "cell", "tokens")
FIRST = names_in(Place.TABLE)  # of the metrics; the rest follows by name
REMEDY = "toconv sync NAME, or the sweep's own command, writes it anew"
LAST = ("violates", "steered", "extension", "device_seconds", "mlflow_run_id")


def write_results(
    path: Path, records: Sequence[TrialRecord], run_ids: Mapping[str, str], searched: Sequence[str]
) -> None:
    """One row a record: facts, searched settings, metrics, then LAST."""
    columns = [*FACTS, *searched, *FIRST, *other_metrics(records), *LAST]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records:
        values = record.violates, record.steered, record.extension, record.device_seconds, run_ids.get(record.trial_id)
        last = dict(zip(LAST, values, strict=True))
        writer.writerow({**facts(record), **record.params, **record.values, **last})
    write_atomic(path, text.getvalue())


def facts(record: TrialRecord) -> dict[str, str | int]:
    """The first columns."""
    return {name: getattr(record, name) for name in FACTS}


def other_metrics(records: Sequence[TrialRecord]) -> list[str]:
    """All but FIRST that any record has, by name; those of the user's own evaluation come last."""
    own = own_metrics(records)
    return [*sorted({name for record in records for name in record.values} - {*FIRST, *own}), *own]


def own_metrics(records: Sequence[TrialRecord]) -> list[str]:
    """What the user's own evaluation gave of any record, by name."""
    return sorted({name for record in records for name in record.own})


def read_results(path: Path) -> list[TrialRecord]:
    """The rows as records; what only the ledger knows is left out. Raises RequestError where the file is missing,
    DamagedFile where it is not what `write_results` writes."""
    if not path.is_file():
        raise RequestError(f"{path}: no such file; run the sweep first")
    try:
        text = read_bytes(path, REMEDY).decode()
        return [_record(row) for row in csv.DictReader(io.StringIO(text, newline=""))]
    except (csv.Error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(path, f"not what toconv writes ({type(error).__name__}: {told(error)})", REMEDY) from error


def _record(row: Mapping[str, str]) -> TrialRecord:
    """A setting's name has a dot in it, a metric's has none."""
    given = {key: value for key, value in row.items() if value}
    metrics = {key: _finite(value) for key, value in given.items() if "." not in key and key not in {*FACTS, *LAST}}
    return TrialRecord(
        trial_id=row["trial_id"],
        name=row["name"],
        kind=Kind(row["kind"]),
        state=State(row["state"]),
        cell=row["cell"],
        tokens=int(row["tokens"]),
        params={key: parse_setting(key, given[key]) for key in given if "." in key},
        values=metrics,
        steered=row.get("steered") or "",
        violates=row.get("violates") or "",
        extension=row.get("extension") or "",
        device_seconds=_finite(given["device_seconds"]) if "device_seconds" in given else None,
    )


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is not finite")
    return float(text)
