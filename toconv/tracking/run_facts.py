"""What is said of a sweep and of each record in a tracking system, as plain values. Knows no tracking library."""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from toconv.analysis.pareto import recommended
from toconv.analysis.records import TrialRecord
from toconv.command_line import pasteable
from toconv.machine import read_means
from toconv.redaction import redact
from toconv.tracking.provenance import Provenance
from toconv.training.epochs import Epoch, read_epochs

PARENT, HASH, KIND = "mlflow.parentRunId", "trial.hash", "toconv.kind"
SWEEP, SWEEP_ID, FOLDER = "toconv.sweep", "toconv.sweep_id", "toconv.folder"
OUTCOME = ("state", "reason", "steered", "not_evaluated")  # of a record, as tags
LONGEST_VALUE = 500  # characters of a param or of a reason (MLflow's limit is 6000)
STEPS = (
    "A metric's step is the epoch after which it was measured, 1 for the first, in every run; baselines train for "
    "none and stand at step 0. The last step's values are the final ones, those of results.csv."
)
Point = tuple[str, float, int, int]  # metric, value, timestamp in ms, step


def provenance_tags(provenance: Provenance) -> dict[str, str]:
    """Under MLflow's own names where it has some, so that its pages show them."""
    found = {
        "mlflow.source.name": provenance.source,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": provenance.user,
        "mlflow.source.git.commit": provenance.commit,
        "tokens.fingerprint": provenance.fingerprint,
    }
    return {key: value for key, value in found.items() if value}


def sweep_tags(provenance: Provenance) -> dict[str, str]:
    """Which sweep something is of: the name, which others may have too, and the id, which they have not."""
    return {SWEEP: provenance.sweep, **({SWEEP_ID: provenance.sweep_id} if provenance.sweep_id else {})}


def folder(provenance: Provenance) -> str:
    """Where the sweep lies now, `host:path`: a person tells two of one name by it."""
    return f"{socket.gethostname()}:{provenance.root}"


def record_tags(record: TrialRecord, provenance: Provenance) -> dict[str, str]:
    """Everything to filter by; `state` as it is now."""
    tags = {
        **provenance_tags(provenance),
        HASH: record.trial_id,
        "name": record.name,
        "kind": record.kind,
        "cell": record.cell,
        "tokens": str(record.tokens),
        "state": record.state,
        "mlflow.note.content": f"{record.name}: {record.label}. {STEPS}",
    }
    if record.number is not None:
        study = f"{provenance.ledger or provenance.sweep}/{record.name.rsplit('/', 1)[0]}"
        tags |= {"optuna.number": str(record.number), "optuna.study": study, "optuna.storage": provenance.storage}
    if record.finalist_of:
        tags["finalist_of"] = record.finalist_of
    if record.extends:
        tags |= {"extends": record.extends, "extension": record.extension}
    if record.steered:
        tags["steered"] = record.steered
    return tags


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Params as a tracking system keeps them: what is not set is left out, secrets are hidden."""
    return {key: redact(str(value))[:LONGEST_VALUE] for key, value in values.items() if value is not None}


def outcome_tags(record: TrialRecord) -> dict[str, str | None]:
    """How it stands; None where a tag of an earlier outcome does not hold any more."""
    found = texts({key: getattr(record, key) or None for key in OUTCOME})
    return {key: found.get(key) for key in OUTCOME}


def record_params(record: TrialRecord) -> dict[str, str]:
    """All settings that decide the record, and how many tokens it leaves, k²."""
    return texts({**record.settings, "tokens": record.tokens})


def _epochs(record: TrialRecord) -> list[Epoch]:
    return read_epochs(record.paths.metrics) if record.folder else []


def began(record: TrialRecord) -> int | None:
    """Milliseconds at which the training began, where it did."""
    found = _epochs(record)
    return int(found[0].timestamp - 1000 * found[0].seconds) if found else None


def ended(record: TrialRecord) -> int | None:
    """Milliseconds at which its last epoch ended, where there is one."""
    found = _epochs(record)
    return found[-1].timestamp if found else None


def epochs(record: TrialRecord) -> list[list[Point]]:
    """The metrics of each epoch; what the machine did is among them where that was asked for."""
    if record.folder is None:
        seconds = {} if record.device_seconds is None else {"device_seconds": record.device_seconds}
        now = time.time_ns() // 1_000_000
        return [[(name, value, now, 0) for name, value in {**record.values, **seconds}.items()]]
    done, found = _epochs(record), []
    machine = read_means(record.paths.machine)  # second: a training writes an epoch's means before the epoch
    for e in done:
        values = {**e.metrics, "device_seconds": e.seconds, **machine.get(e.epoch, {})}
        found.append([(name, value, e.timestamp, e.epoch) for name, value in values.items()])
    return found


def own(record: TrialRecord) -> list[Point]:
    """What the user's own evaluation gave, at the last epoch and at the time when it was kept."""
    found = _epochs(record) if record.own else []
    if not found:
        return []
    kept = record.paths.evaluation
    when = int(1000 * kept.stat().st_mtime) if kept.exists() else found[-1].timestamp
    return [(name, record.values[name], when, found[-1].epoch) for name in record.own]


def datasets(provenance: Provenance) -> list[dict[str, str]]:
    """The token store's splits: name, digest, source, schema, profile and context of each."""
    n, c = provenance.shape
    features = [{"type": "tensor", "tensor-spec": {"dtype": provenance.dtype, "shape": [-1, n, c]}}]
    about = {"tokens_of_an_image": n, "width": c, "encoder": provenance.encoder}
    return [
        {
            "name": f"tokens-{split}",
            "digest": provenance.fingerprint,
            "source_type": "local",
            "source": json.dumps({"uri": str(provenance.store)}),
            "context": split,
            "schema": json.dumps({"mlflow_tensorspec": {"features": json.dumps(features), "targets": None}}),
            "profile": json.dumps({**about, "images": images}),
        }
        for split, images in provenance.images.items()
    ]


def sweep_note(provenance: Provenance, records: Sequence[TrialRecord]) -> str:
    """The parent's description: where the sweep lies, and which file to take at each number of tokens."""
    lines = ["| tokens | lowest distortion | trial | take it with |", "|---|---|---|---|"]
    for tokens, record in recommended(records).items():
        compress = pasteable(["toconv", "compress", "IMAGE", "--checkpoint", str(record.folder)])
        command = compress if record.kept else "not kept"
        lines.append(f"| {tokens} | {record.values['distortion']:.4f} | {record.name}: {record.label} | `{command}` |")
    table = "\n".join(lines) if len(lines) > 2 else "No trial is complete yet."
    return f"`{folder(provenance)}`\n\n{table}\n\n{STEPS}"
