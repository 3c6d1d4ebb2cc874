"""results.csv as pandas has it, for notebooks. The only module that knows pandas."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from toconv.analysis.pareto import front, recommended
from toconv.analysis.results import FACTS, read_results
from toconv.errors import RequestError
from toconv.evaluation.metrics import HELD_OUT, METRICS

Frame: TypeAlias = pd.DataFrame
TEXTS = ("trial_id", "name", "kind", "state", "cell", "violates", "steered", "extension", "mlflow_run_id")
SECONDS = {"device_seconds": "seconds of training"}


def frame(path: Path) -> Frame:
    """A row for each trial, finalist and baseline, as results.csv has them; `attrs["units"]` holds the units. Raises
    RequestError where there is no such file, DamagedFile where it is not what toconv writes."""
    read_results(path)
    found = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=True)
    texts = [name for name in TEXTS if name in found]
    found[texts] = found[texts].fillna("")
    units = {split.prefix + m.name: m.unit or m.direction for split in HELD_OUT for m in METRICS.values()}
    found.attrs["units"] = {name: unit for name, unit in {**units, **SECONDS}.items() if name in found}
    return found


def front_frame(path: Path, objectives: Mapping[str, str], k: int | None) -> Frame:
    """The rows of trials that no other trial beats, and of the one to take at each number of tokens, which the column
    `recommended` marks; by rising tokens and distortion. With `k`, of that grid size alone: raises RequestError where
    no trial of it is complete."""
    records, rows = read_results(path), frame(path)
    best = recommended(records)
    if k is not None and k * k not in best:
        there = ", ".join(str(math.isqrt(tokens)) for tokens in best) or "none"
        raise RequestError(f"k={k}: no trial of it is complete; complete are trials of k = {there}")
    wanted = {r.trial_id for r in [*front(records, objectives), *best.values()] if k is None or r.tokens == k * k}
    found = rows[rows["trial_id"].isin(wanted)].copy()
    found.insert(len(FACTS), "recommended", found["trial_id"].isin({r.trial_id for r in best.values()}))
    return found.sort_values(["tokens", "distortion"], ignore_index=True)
