"""What a trial costs the driver, the ledger, MLflow, report and results.csv, as a sweep of tiny trials grows."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.comparison import REPOSITORY
from benchmarks.growth import TRIVIAL, exponent
from benchmarks.timed_sweep import DRIVER, ENTERING, EPOCH, GPUS, MLFLOW, PROPOSAL, REPLAYED, REPORT, RESULTS, TRIALS
from toconv.errors import ExitCode
from toconv.paths import write_atomic

COUNTS, TINY = (10, 100, 1000, 2000), (2, 4)
BENCH = REPOSITORY / "outputs" / "bench" / "many_trials.json"
LAST = 0.2  # of the calls of a stage, which are told of: the sweep has nearly all its trials then
CALLS = {  # of which there are some for each trial: what is told of them
    PROPOSAL: "a proposal of the ledger",
    ENTERING: "entering a trial that ended",
    EPOCH: "an epoch's report",
    MLFLOW: "a record to MLflow",
}
WHOLE = {REPORT: "report.html and figures", RESULTS: "results.csv"}
SETTINGS = {**TRIVIAL, "name": "many", "data.tokens_dir": "tokens", "resources.gpu": 1}

Found = Mapping[str, Sequence[float]]


def main(arguments: list[str]) -> int:
    """0 where every stage of the sweep ended as it should, 3 where one did not."""
    asked = _parser().parse_args(arguments)
    counts, stages = sorted(asked.trials or (TINY if asked.tiny else COUNTS)), dict[int, Found]()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for count in counts:
            found = _sweep(Path(folder), count, asked, replayed=asked.replayed and bool(stages))
            if found is None:
                return ExitCode.TRIALS_FAILED
            stages[count] = found
            print("\n".join(told(count, count - max([0, *(n for n in stages if n < count)]), found)), flush=True)
    print("\n".join(growth(stages)))
    write_atomic(BENCH, json.dumps({**vars(asked), "folder": None, "stages": stages}))
    print(BENCH)
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks many_trials", description=__doc__)
    parser.add_argument(
        "trials", nargs="*", type=int, help=f"of each stage, the sweep grows from one to the next {COUNTS}"
    )
    parser.add_argument("--tiny", action="store_true", help=f"{TINY} trials, to see that it works")
    parser.add_argument(
        "--slots", type=int, default=os.cpu_count(), help="trials at a time, each on a logical GPU (%(default)s)"
    )
    parser.add_argument(
        "--replayed",
        action="store_true",
        help="trials of the first stage train; later ones end at once as one of those did, a little better or worse: "
        "driver, ledger, MLflow and report alone",
    )
    parser.add_argument("--sampler", default="tpe", help="as in a sweep file (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the sweep lies, and goes when it ends (the system's own)")
    return parser


def _sweep(folder: Path, trials: int, asked: argparse.Namespace, replayed: bool) -> Found | None:
    """One start: it goes on to so many trials. None where it did not end with exit code 0, which is told."""
    share = min(1.0, math.floor(1e4 * (os.cpu_count() or 1) / asked.slots) / 1e4)
    given = {**SETTINGS, "trials": trials, "sampler": asked.sampler, "resources.cpu": share}
    words = [f"{key}={value}" for key, value in given.items()]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    environment |= {GPUS: str(asked.slots), **({REPLAYED: "1"} if replayed else {})}
    file, sweep = folder / f"{trials}.json", REPOSITORY / "sweeps" / "grid_sizes.yaml"
    command = [sys.executable, "-m", "benchmarks.timed_sweep", str(file), str(sweep), *words]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)
    if done.returncode:
        print(f"the sweep of {trials} trials ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return None
    return json.loads(file.read_text())


def told(count: int, new: int, found: Found) -> list[str]:
    """Of a stage that ended with `count` trials, `new` of them its own."""
    seconds = f"{found[TRIALS][0] / new:.3f} s, of the driver's CPU {found[DRIVER][0] / new:.3f} s"
    calls = (f"{text} {1e3 * late(found[part]):.1f} ms" for part, text in CALLS.items())
    whole = (f"{text} {found[part][-1]:.2f} s" for part, text in WHOLE.items())
    return [f"{count} trials: a trial {seconds}", f"  {'; '.join(calls)}", f"  {'; '.join(whole)}"]


def late(seconds: Sequence[float]) -> float:
    """The median of the last calls."""
    return statistics.median(seconds[-max(1, round(LAST * len(seconds))) :])


def growth(stages: Mapping[int, Found]) -> list[str]:
    """The p of time ∝ trials^p, over stages: 0 for what stays as it is, above 1 for the end what is to be mended."""
    if len(stages) < 2:
        return []
    calls = {text: [(n, late(found[part])) for n, found in stages.items()] for part, text in CALLS.items()}
    whole = {text: [(n, found[part][-1]) for n, found in stages.items()] for part, text in WHOLE.items()}
    return [f"{text}: trials^{exponent(curve):.2f}" for text, curve in {**calls, **whole}.items()]
