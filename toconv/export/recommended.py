"""A trial as an export with all that its sweep knows of it, and the recommended trial of each k."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Any

from toconv import checkpoint, config
from toconv.analysis.pareto import recommended
from toconv.analysis.records import TrialRecord, baselines_at, finalists_of
from toconv.analysis.seeds import estimate
from toconv.errors import CheckpointError, RequestError, StoreError, ToconvError
from toconv.evaluation.metrics import COST, HELD_OUT, Place, Split, names_in
from toconv.export.from_checkpoint import build_module
from toconv.export.graphs import EXPORT_FILE, ONNX_FILE
from toconv.export.model_card import card_digest
from toconv.export.module import CONFIG_NAME, SAFETENSORS_SINGLE_FILE, TokenCompressor, read_config
from toconv.paths import SweepPaths, whole_folder
from toconv.progress import console
from toconv.setting_names import changes_a_number
from toconv.settings import USED_PICTURES, Settings
from toconv.sweep.driver import Driver
from toconv.sweep.recorded import read_request
from toconv.tokens.manifest import SPLITS
from toconv.tokens.store import TokenStore
from toconv.training.epochs import Epoch

PRIVATE = ("data.root", "data.imagenet_root", "encoder.weights", "encoder.architecture")  # may be local paths

CARD = "README.md"
FILES = {CONFIG_NAME, SAFETENSORS_SINGLE_FILE, CARD, ONNX_FILE, EXPORT_FILE}  # of an export

Extra = Callable[[TokenCompressor, Path], object]  # writes a file


def export_recommended(driver: Driver) -> None:
    """Write recommended/k<K> for each number of tokens that has a complete trial, where trial or results have changed.
    Prints where they are, and why one is not there; raises nothing of ours and nothing of the disk's."""
    records, there = driver.records(), []
    for tokens, trial in recommended(records).items():
        target = driver.paths.recommended_at(isqrt(tokens))
        try:
            if not _up_to_date(target, trial, results(trial.values, trial, records)):
                export_trial(driver, trial, records, target)
            there.append(target.name)
        except (ToconvError, OSError) as error:
            console.print(f"{target}: not written: {error}")
    if there:
        console.print(
            f"compressors: {driver.paths.recommended} ({', '.join(there)}); in Python: "
            f'toconv.load("outputs/{driver.sweep.file.name}/recommended/{there[0]}")'
        )


def _up_to_date(folder: Path, trial: TrialRecord, found: Mapping[str, Any]) -> bool:
    try:
        known = TokenCompressor.from_pretrained(folder).config if folder.is_dir() else {}
    except CheckpointError:
        return False
    return (known.get("trial"), known.get("results")) == (trial.trial_id, json.loads(json.dumps(found)))


def export_trial(
    driver: Driver, trial: TrialRecord, records: Sequence[TrialRecord], target: Path, extras: Mapping[str, Extra] = {}
) -> TokenCompressor:
    """Make `target` an export of that trial, whole or not at all; `extras` write files of it, by name. Raises
    as `check_replaceable` does, CheckpointError where the trial's checkpoint is gone or damaged, EncoderError where the
    encoder's weights are."""
    check_replaceable(target)
    latest = trial.paths.latest
    if not latest.exists():
        who = f"trial {trial.name} ({trial.trial_id})"
        raise CheckpointError(
            f"{latest}: {who} has no checkpoint any more; checkpoints stay for the front and what is recommended"
        )
    state = checkpoint.load(latest)
    settings, last = config.of_checkpoint(state["settings"]), Epoch(**state["epochs"][-1])
    compressor = build_module(state, settings, latest, about(driver, trial, records, settings, last))
    with whole_folder(target.resolve()) as folder:
        compressor.save_pretrained(folder)
        for name, write in extras.items():
            write(compressor, folder / name)
    return compressor


def check_replaceable(target: Path) -> None:
    """Raises RequestError where the folder holds files that no export has, or that somebody has changed: they would be
    gone."""
    strangers = sorted(path.name for path in target.iterdir() if path.name not in FILES) if target.is_dir() else []
    if strangers:
        raise RequestError(
            f"{target}: holds what is no part of an export, and is not replaced: {', '.join(strangers)}; move it away, "
            "or name another folder"
        )
    if changed := [*_changed(target)]:
        raise RequestError(
            f"{target}: {' and '.join(changed)} changed since toconv exported it, and would be lost; move the folder "
            "away, or name another one"
        )


def _changed(folder: Path) -> Iterator[str]:
    """What of an export is no longer as it was written: the card, or the weights where they were trained on. Weights
    that are damaged are no loss."""
    try:
        known = read_config(folder / CONFIG_NAME)
    except CheckpointError:
        return
    card, digest = folder / CARD, known.get("card_sha256")  # which earlier versions do not tell
    if digest and card.exists() and card_digest(card.read_text(errors="replace")) != digest:
        yield CARD
    if "trial" in known and known.get("results") is None:
        yield SAFETENSORS_SINGLE_FILE


def about(
    driver: Driver, trial: TrialRecord, records: Sequence[TrialRecord], settings: Settings, last: Epoch
) -> dict[str, Any]:
    """What config.json says beside the networks: where the compressor comes from and how good it is."""
    values = trial.values or last.metrics  # a running trial's, so far
    asked = config.flat(settings.model_dump(mode="json"))
    return {
        "sweep": driver.sweep.file.name,
        "trial": trial.trial_id,
        "name": trial.name,
        "state": trial.state,
        "seed": settings.training.seed,
        "epochs": [last.epoch, settings.training.epochs],
        "loss": {key: asked[key] for key in asked if key.startswith(("loss.", "training.n_critic"))},
        "data": data(driver.store, settings),
        "results": results(values, trial, records),
        "cost": {name: values[name] for name in COST if name in values},
        "reproduce": {"settings": reproduce(settings), **_facts(driver.paths)},
    }


def data(store: Path, settings: Settings) -> dict[str, Any]:
    """The kind of pictures, and how many each split has, crops of one picture counted once; None where the token store
    is gone."""
    crops = settings.data.crops
    try:
        tokens = TokenStore(store)
        pictures = {split: tokens.count(split) // crops for split in SPLITS}
    except StoreError:
        pictures = None
    return {"kind": settings.data.kind, "crops": crops, "pictures": pictures}


def results(values: Mapping[str, float], trial: TrialRecord, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """The compressor's own metrics; means and half 95 % intervals over its finalists; baselines of its k."""
    runs = [r.values for r in finalists_of(records, trial.trial_id)]
    finalists = {"seeds": len(runs), **{s.title: _estimates(runs, s) for s in HELD_OUT}} if runs else None
    baselines = {name: _by_split(r.values) for name, r in baselines_at(records, trial.tokens).items()}
    return {**_by_split(values), "finalists": finalists, "baselines": baselines}


def _by_split(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    shown = names_in(Place.FIGURE)
    return {s.title: {name: values[s.prefix + name] for name in shown if s.prefix + name in values} for s in HELD_OUT}


def _estimates(runs: Sequence[Mapping[str, float]], split: Split) -> dict[str, list[float | None]]:
    shown = {name: split.prefix + name for name in names_in(Place.FIGURE)}
    known = {name: column for name, column in shown.items() if all(column in run for run in runs)}
    found = {name: estimate([run[column] for run in runs]) for name, column in known.items()}
    return {name: [e.mean, e.half_width] for name, e in found.items()}


def reproduce(settings: Settings) -> list[str]:
    """The `key=value`s that train these weights anew; folders of this machine are left open."""
    asked = config.overrides_of(settings)
    given = {key: value for key, value in asked.items() if changes_a_number(key) or key in USED_PICTURES}
    hidden = {key for key in given if key in PRIVATE and Path(str(given[key])).is_absolute()}
    return [config.override_text(key, "PATH" if key in hidden else value) for key, value in given.items()]


def _facts(paths: SweepPaths) -> dict[str, Any]:
    """Versions, commit and code of the sweep's latest start."""
    found = read_request(paths)
    code, bf16 = found["definition"]["code"], found["definition"]["settings"].get("mixed_precision")
    versions = {"commit": found["git_commit"], "python": found["python"], "versions": found["versions"]}
    return {**versions, "code": code, "mixed_precision": bf16}
