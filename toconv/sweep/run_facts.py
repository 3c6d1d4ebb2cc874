"""What is said of a sweep and of each record in a tracking system, as plain values. Knows no tracking library."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from toconv.durable import read_rows
from toconv.paths import TrialPaths
from toconv.sweep.origin import Origin
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import recommended

PARENT, HASH, SWEEP, KIND = "mlflow.parentRunId", "trial.hash", "toconv.sweep", "toconv.kind"
LONGEST_VALUE = 500  # characters of a param or of a reason (MLflow's limit is 6000)
STEPS = ("A metric's step is the epoch after which it was measured, 1 for the first, in every run; baselines train for "
         "none and stand at step 0. The last step's values are the final ones, those of results.csv.")
Point = tuple[str, float, int, int]  # metric, value, timestamp in ms, step


def redact(text: str) -> str:
    """Hide the password of any URI in the text."""
    return re.sub(r"(://[^/:@\s]+):[^@\s]+@", r"\1:***@", text)


def origin_tags(origin: Origin) -> dict[str, str]:
    """Under MLflow's own names where it has some, so that its pages show them."""
    found = {"mlflow.source.name": origin.source, "mlflow.source.type": "LOCAL", "mlflow.user": origin.user,
             "mlflow.source.git.commit": origin.commit, "tokens.fingerprint": origin.fingerprint}
    return {key: value for key, value in found.items() if value}


def record_tags(record: TrialRecord, origin: Origin) -> dict[str, str]:
    """Everything to filter by; `state` as it is now."""
    tags = {**origin_tags(origin), HASH: record.trial_id, "name": record.name, "kind": record.kind,
            "cell": record.cell, "tokens": str(record.tokens), "state": record.state,
            "mlflow.note.content": f"{record.name}: {record.label}. {STEPS}"}
    if record.number is not None:
        tags |= {"optuna.number": str(record.number),
                 "optuna.study": f"{origin.sweep}/{record.name.rsplit('/', 1)[0]}"}
    if record.finalist_of:
        tags["finalist_of"] = record.finalist_of
    return tags


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Params as a tracking system keeps them: what is not set is left out, secrets are hidden."""
    return {key: redact(str(value))[:LONGEST_VALUE] for key, value in values.items() if value is not None}


def record_params(record: TrialRecord) -> dict[str, str]:
    """All settings that decide the record, and how many tokens it leaves, k²."""
    return texts({**record.settings, "tokens": record.tokens})


def began(record: TrialRecord) -> int | None:
    """Milliseconds at which the training began, where it did."""
    rows = read_rows(TrialPaths(record.folder).metrics) if record.folder else []
    return int(rows[0]["timestamp"] - 1000 * rows[0]["seconds"]) if rows else None


def ended(record: TrialRecord) -> int | None:
    """Milliseconds at which its last epoch ended, where there is one."""
    rows = read_rows(TrialPaths(record.folder).metrics) if record.folder else []
    return rows[-1]["timestamp"] if rows else None


def epochs(record: TrialRecord) -> list[list[Point]]:
    """The metrics of each epoch; what the machine did is among them where that was asked for."""
    if record.folder is None:
        seconds = {} if record.device_seconds is None else {"device_seconds": record.device_seconds}
        now = time.time_ns() // 1_000_000
        return [[(name, value, now, 0) for name, value in {**record.values, **seconds}.items()]]
    paths = TrialPaths(record.folder)
    machine = {row["epoch"]: row["metrics"] for row in read_rows(paths.machine)}
    return [[(name, value, row["timestamp"], row["epoch"]) for name, value in {
        **row["metrics"], "device_seconds": row["seconds"], **machine.get(row["epoch"], {})}.items()]
        for row in read_rows(paths.metrics)]


def datasets(origin: Origin) -> list[dict[str, str]]:
    """The token store's splits: name, digest, source, schema, profile and context of each."""
    n, c = origin.shape
    return [{"name": f"tokens-{split}", "digest": origin.fingerprint, "source_type": "local",
             "source": json.dumps({"uri": str(origin.tokens)}), "context": split,
             "schema": json.dumps({"mlflow_tensorspec": {
                 "features": json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float16", "shape": [-1, n, c]}}]),
                 "targets": None}}),
             "profile": json.dumps({"images": images, "tokens_of_an_image": n, "width": c,
                                    "encoder": origin.encoder})}
            for split, images in origin.images.items()]


def sweep_note(records: Sequence[TrialRecord]) -> str:
    """The parent's description: which file to take at each number of tokens."""
    lines = ["| tokens | lowest distortion | trial | take it with |", "|---|---|---|---|"]
    for tokens, record in recommended(records).items():
        command = f"python -m toconv.compress IMAGE --checkpoint {record.folder}" if record.kept else "not kept"
        lines.append(f"| {tokens} | {record.values['distortion']:.4f} | {record.name}: {record.label} | `{command}` |")
    table = "\n".join(lines) if len(lines) > 2 else "No trial is complete yet."
    return f"{table}\n\n{STEPS}"
