"""A sweep's recommended compressors as exports, with all that the sweep knows of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import yaml

from toconv import checkpoint, config
from toconv.errors import CheckpointError, StoreError, ToconvError
from toconv.export import build
from toconv.module import TokenCompressor
from toconv.paths import SweepPaths, TrialPaths, whole_folder
from toconv.progress import console
from toconv.settings import Settings
from toconv.sweep.driver import Driver
from toconv.sweep.finalists import estimate
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import METRICS, recommended
from toconv.tokens.images import SPLITS
from toconv.tokens.store import TokenStore

REPORTED = (*METRICS, "zero_shot_agreement")
COST = ("compressor_flops", "compressor_parameters")
PREFIXES = {"validation": "", "test": "test_"}
NO_NUMBERS = ("experiment.", "hardware.", "resume", "data.tokens_dir", "data.workers", "training.log_every",
              "training.checkpoint_every", "training.keep_last_n")  # settings that change no result
PRIVATE = ("data.root", "data.imagenet_root", "encoder.weights", "encoder.architecture")  # may be local paths

Extra = Callable[[TokenCompressor, Path], None]


def export_front(driver: Driver) -> None:
    """Write front/k<K> for each number of tokens that has a complete trial, where trial or results have changed.

    Prints where they are, and why one is not there; raises nothing of ours and nothing of the disk's.
    """
    records, there = driver.records(), []
    for tokens, trial in recommended(records).items():
        target = driver.paths.front(isqrt(tokens))
        try:
            if not _up_to_date(target, trial, results(trial.values, trial, records)):
                export(driver, trial, records, target)
            there.append(target.name)
        except (ToconvError, OSError) as error:
            console.print(f"{target}: not written: {error}")
    if there:
        console.print(f"compressors: {driver.paths.fronts} ({', '.join(there)}); in Python: "
                      f'toconv.load("outputs/{driver.sweep.file.name}/front/{there[0]}")')


def _up_to_date(folder: Path, trial: TrialRecord, found: Mapping[str, Any]) -> bool:
    try:
        known = TokenCompressor.from_pretrained(folder).config if folder.is_dir() else {}
    except CheckpointError:
        return False
    return (known.get("trial"), known.get("results")) == (trial.trial_id, json.loads(json.dumps(found)))


def export(
    driver: Driver, trial: TrialRecord, records: Sequence[TrialRecord], target: Path, extras: Iterable[Extra] = ()
) -> TokenCompressor:
    """Make `target` an export of that trial, whole or not at all; `extras` add files to it.

    Raises CheckpointError where the trial's checkpoint is gone or damaged, EncoderError where the encoder's weights are.
    """
    latest = TrialPaths(trial.folder).latest
    if not latest.exists():
        raise CheckpointError(f"{latest}: trial {trial.name} ({trial.trial_id}) has no checkpoint any more; checkpoints "
                              "stay for trials on the front alone")
    state = checkpoint.load(latest)
    settings = Settings.model_validate(state["settings"])
    compressor = build(state, settings, latest, about(driver, trial, records, settings, state["rows"]))
    with whole_folder(target) as folder:
        compressor.save_pretrained(folder)
        for extra in extras:
            extra(compressor, folder)
    return compressor


def about(
    driver: Driver, trial: TrialRecord, records: Sequence[TrialRecord], settings: Settings,
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What config.json says beside the networks: where the compressor comes from and how good it is."""
    values = trial.values or rows[-1]["metrics"]  # a running trial's, so far
    asked = config.flat(settings.model_dump(mode="json"))
    return {
        "sweep": driver.sweep.file.name, "trial": trial.trial_id, "name": trial.name, "state": trial.state,
        "seed": settings.training.seed, "epochs": [rows[-1]["epoch"], settings.training.epochs],
        "loss": {key: asked[key] for key in asked if key.startswith(("loss.", "training.n_critic"))},
        "data": data(driver.tokens, settings), "results": results(values, trial, records),
        "cost": {name: values[name] for name in COST if name in values},
        "reproduce": {"settings": reproduce(settings), **_facts(driver.paths)}}


def data(tokens: Path, settings: Settings) -> dict[str, Any]:
    """The kind of pictures, and how many each split has, crops of one picture counted once; None where the token store
    is gone."""
    crops = settings.data.crops
    try:
        store = TokenStore(tokens)
        pictures = {split: store.count(split) // crops for split in SPLITS}
    except StoreError:
        pictures = None
    return {"kind": settings.data.kind, "crops": crops, "pictures": pictures}


def results(values: Mapping[str, float], trial: TrialRecord, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """The compressor's own metrics; means and half 95 % intervals over its finalists; baselines of its k."""
    runs = [r.values for r in records if r.finalist_of == trial.trial_id and r.state == "complete"]
    return {
        **_by_split(values), "finalists": {"seeds": len(runs), **{
            split: _estimates(runs, prefix) for split, prefix in PREFIXES.items()}} if runs else None,
        "baselines": {r.name: _by_split(r.values) for r in records
                      if r.kind == "baseline" and r.tokens == trial.tokens}}


def _by_split(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {split: {name: values[prefix + name] for name in REPORTED if prefix + name in values}
            for split, prefix in PREFIXES.items()}


def _estimates(runs: Sequence[Mapping[str, float]], prefix: str) -> dict[str, list[float | None]]:
    found = {name: estimate([run[prefix + name] for run in runs])
             for name in REPORTED if all(prefix + name in run for run in runs)}
    return {name: [e.mean, e.half_width] for name, e in found.items()}


def reproduce(settings: Settings) -> list[str]:
    """The `key=value`s that train these weights anew; folders of this machine are left open."""
    return [f"{key}={'PATH' if key in PRIVATE and Path(str(value)).is_absolute() else _text(value)}"
            for key, value in config.overrides_of(settings).items() if not key.startswith(NO_NUMBERS)]


def _text(value: Any) -> str:
    """A value in the grammar of the command line."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _facts(paths: SweepPaths) -> dict[str, Any]:
    """Versions, commit and code of the sweep's latest start."""
    found = yaml.safe_load(paths.request.read_text())
    return {"commit": found["git_commit"], "python": found["python"], "versions": found["versions"],
            "code": found["definition"]["code"], "mixed_precision": found["definition"]["settings"]["mixed_precision"]}
