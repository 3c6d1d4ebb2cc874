"""What a store's dtype changes: the same sweep once on each, and what it measured of the same trials and baselines.

Each is measured on the held-out images of its own store, as a user of that dtype has it."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from benchmarks.comparison import REPOSITORY
from benchmarks.growth import SMALL
from toconv.analysis.records import TrialRecord
from toconv.analysis.results import read_results
from toconv.errors import ExitCode
from toconv.evaluation.metrics import Place, names_in
from toconv.paths import OUTPUTS, SweepPaths, write_atomic
from toconv.settings import GRID_SIZE

DTYPES = ("fp16", "bf16", "int8")  # the first is what the others are held against
BENCH = REPOSITORY / "outputs" / "bench" / "stored_dtypes.json"
SIZES, TRIALS = [4, 6], 2  # of each size, the second by a random draw, which goes by cell and number alone
SETTINGS = {
    "training.epochs": 1,
    "training.test": False,
    **{f"model.{part}.width": 64 for part in ("compressor", "decoder", "critic")},
}
TINY = {**SMALL, "data.crops": 1}

Values = Mapping[str, float]


def main(arguments: list[str]) -> int:
    """0 where every sweep ended as it should, 3 where one did not."""
    asked = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        found = {dtype: _measured(Path(folder), dtype, asked.tiny) for dtype in DTYPES}
    if not all(found.values()):
        return ExitCode.TRIALS_FAILED
    print("\n".join(told(found)))
    write_atomic(BENCH, json.dumps(found))
    print(BENCH)
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks stored_dtypes", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="few small trainings, to see that it works")
    parser.add_argument("--folder", type=Path, help="where the sweeps lie, and go when they end (the system's own)")
    return parser


def _measured(folder: Path, dtype: str, tiny: bool) -> dict[str, Values]:
    """{trial or baseline: what was measured}; nothing where the sweep did not end with exit code 0, which is told."""
    settings = {**SETTINGS, **(TINY if tiny else {}), "store.dtype": dtype, "data.tokens_dir": "tokens"}
    asked = yaml.safe_load((REPOSITORY / "sweeps" / "grid_sizes.yaml").read_text())
    asked |= {"name": dtype, "settings": settings, "grid": {GRID_SIZE: SIZES}, "sampler": "random", "trials": TRIALS}
    (folder / f"{dtype}.yaml").write_text(yaml.safe_dump(asked))
    command = [sys.executable, str(REPOSITORY / "run_sweep.py"), f"{dtype}.yaml"]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    if done.returncode:
        print(f"the sweep on {dtype} ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return {}
    return {_named(r): r.values for r in read_results(SweepPaths(folder / OUTPUTS / dtype).results)}


def _named(record: TrialRecord) -> str:
    """As it is called on each store."""
    return f"{record.name} ({record.tokens} tokens)"


def told(found: Mapping[str, Mapping[str, Values]]) -> list[str]:
    """For each other dtype and metric: the largest difference to the first, and how many pairs change their order."""
    first, *others = found
    metrics = [name for name in names_in(Place.TABLE) if all(name in values for values in found[first].values())]
    lines = []
    for dtype, metric in itertools.product(others, metrics):
        names = [*found[first]]
        was, now = ([found[which][name][metric] for name in names] for which in (first, dtype))
        place = max(range(len(names)), key=lambda i: abs(now[i] - was[i]))
        lines.append(
            f"{dtype} against {first}, {metric}: at most {now[place] - was[place]:+.2g} ({names[place]}, "
            f"{was[place]:.6f}), over a range of {max(was) - min(was):.4f}; {turned(was, now)} of "
            f"{len(names) * (len(names) - 1) // 2} pairs change their order"
        )
    return lines


def turned(was: Sequence[float], now: Sequence[float]) -> int:
    """Pairs of which the smaller one is not the smaller one any more."""
    pairs = itertools.combinations(range(len(was)), 2)
    return sum((was[a] < was[b]) != (now[a] < now[b]) or (was[a] > was[b]) != (now[a] > now[b]) for a, b in pairs)
