"""Baselines of a sweep: computed once for each token store and k, kept beside the tokens."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from toconv.hardware import resolve_device
from toconv.identity import BASELINE_CODE, code_version
from toconv.metrics import evaluate, ridge_distortion
from toconv.models.baselines import fit_baselines
from toconv.models.cost import forward_flops
from toconv.paths import write_atomic
from toconv.perception import PerceptionReference
from toconv.progress import bar, console
from toconv.settings import EncoderSettings
from toconv.sweep.records import TrialRecord
from toconv.sweep.spec import GRID_SIZE, Sweep
from toconv.tokens.batches import Batches
from toconv.tokens.codes import linear_code
from toconv.tokens.store import TokenStore
from toconv.use import Use

BATCH = 32  # images at a time; changes no number


def baseline_records(sweep: Sweep, tokens: Path) -> list[TrialRecord]:
    """A record for each baseline at each k of the sweep, measured on the validation images."""
    sizes = sweep.grid_sizes()
    missing = [k for k in sizes if not _path(tokens, k).exists()]
    if missing:
        device, store = resolve_device(sweep.base.hardware), TokenStore(tokens)
        with bar("k") as progress:
            for k in progress.track(missing, description="baselines at each"):
                write_atomic(_path(tokens, k), json.dumps(measure(store, sweep.base.encoder, k, device), indent=1))
        console.print(f"baselines measured at k = {', '.join(map(str, missing))}")
    return recorded_baselines(sweep, tokens)


def recorded_baselines(sweep: Sweep, tokens: Path) -> list[TrialRecord]:
    """Those that have been measured."""
    return [_record(tokens, k, name, found) for k in sweep.grid_sizes() if _path(tokens, k).exists()
            for name, found in json.loads(_path(tokens, k).read_text()).items()]


def measure(store: TokenStore, encoder: EncoderSettings, k: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """{baseline: {metrics, seconds}} on the validation and the test images, each fitted on the training images."""
    train, *held_out = (Batches(store, split, BATCH, device) for split in ("train", "val", "test"))
    references, found = [PerceptionReference.from_batches(images) for images in held_out], {}
    uses = [Use(images, encoder) for images in held_out]
    with torch.inference_mode():
        start = time.perf_counter()
        code = linear_code(store, k, device)
        for name, baseline in fit_baselines(train, store.grid_size, k, code):
            ridges = ridge_distortion(baseline.compress, train, held_out, store.grid_size, k)
            metrics = {}
            for prefix, images, reference, ridge, use in zip(
                    ("", "test_"), held_out, references, ridges, uses, strict=True):
                values = evaluate(baseline.compress, baseline.decompress, images, reference)
                values |= {"distortion_ridge": ridge, **use.of(baseline.compress)}
                metrics |= {prefix + name: value for name, value in values.items()}
            flops = forward_flops(baseline.compress, 1, store.grid_size**2, store.width, device=str(device))
            metrics |= {"compressor_flops": float(flops), "compressor_parameters": float(baseline.numbers)}
            found[name] = {"metrics": metrics, "seconds": round(time.perf_counter() - start, 3)}
            start = time.perf_counter()
    return found


def _path(tokens: Path, k: int) -> Path:
    return tokens / "derived" / f"baselines-k{k}-{code_version(BASELINE_CODE)}.json"


def _record(tokens: Path, k: int, name: str, found: dict[str, Any]) -> TrialRecord:
    identity = hashlib.sha256(f"{tokens.name} {name} {k} {code_version(BASELINE_CODE)}".encode()).hexdigest()[:12]
    return TrialRecord(
        trial_id=identity, name=name, kind="baseline", state="complete", cell=f"k={k}", tokens=k * k,
        params={GRID_SIZE: k}, values=found["metrics"], device_seconds=found["seconds"], folder=None, reason=None)
