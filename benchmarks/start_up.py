"""How long a command takes to its first training step, and what it may not import before it must."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.comparison import REPOSITORY, Ratio, median_and_spread, ratio_of, show

IMPORTS = "import torch, ray.tune, optuna, mlflow"
HEAVY = {"torch", "ray"}
LIGHT = {
    "import toconv": ["-c", "import toconv"],
    "run_sweep.py --help": ["run_sweep.py", "--help"],
    "train.py --help": ["train.py", "--help"],
    "an unknown key": ["run_sweep.py", "sweeps/grid_sizes.yaml", "training.epoch=4"],
    "a value out of range": ["train.py", "training.batch_size=0"],
}
SWEEP = [
    "run_sweep.py",
    "sweeps/grid_sizes.yaml",
    "name=bench_start_up",
    "data.crops=1",
    "training.epochs=1",
    "trials=1",
    "model.compressor.output_grid_size=6",
    "model.compressor.init=pool",  # a linear code takes its time, once a store
    "baselines=false",  # minutes, once a store
]


def measure(rounds: int = 2) -> list[Ratio]:
    folder = REPOSITORY / "outputs" / "bench_start_up"
    ours, theirs = [], []
    for number in range(rounds + 1):
        shutil.rmtree(folder, ignore_errors=True)  # and another seed, so that no finished trial is adopted
        ours.append(until(lambda: any(folder.glob("trials/*/worker.json")), *SWEEP, f"training.seed={100 + number}"))
        if not number:  # which has encoded the tokens
            ours.clear()
            continue
        start = time.perf_counter()
        python("-c", IMPORTS)
        theirs.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as marks:
        mark = Path(marks, "mark")
        plain = until(mark.exists, "-m", "benchmarks.plain_first_step", str(mark))
    shutil.rmtree(folder)
    middle = [median_and_spread(t)[0] for t in (ours, theirs)]
    heavy = {what: found for what, arguments in LIGHT.items() if (found := imported(*arguments) & HEAVY)}
    return [
        ratio_of(
            "from command to first training step against importing the libraries",
            ours,
            theirs,
            2.0,
            f"run_sweep.py to a worker's first step: {middle[0]:.1f} s; {IMPORTS}: {middle[1]:.1f} s; a Ray Tune "
            f"script of one linear layer to its first step: {plain:.1f} s",
            "Ray's start and a worker's own import of torch, one after the other",
            False,
        ),
        Ratio(
            "light commands that import torch or ray",
            len(heavy),
            0,
            False,
            0.0,
            f"of {', '.join(LIGHT)}: {heavy or 'none'}",
        ),
    ]


def python(*arguments: str) -> str:
    """What the command prints on stdout."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True
    ).stdout


def until(reached: Callable[[], bool], *arguments: str) -> float:
    """Seconds from the command's start until `reached`; the command is then interrupted."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not reached():
        if process.poll() is not None:
            raise RuntimeError(f"{arguments} ended with {process.returncode} before its first step")
        time.sleep(0.02)
    took = time.perf_counter() - start
    process.terminate()
    process.wait()
    return took


def imported(*arguments: str) -> set[str]:
    """Top-level names that a command imports, however it ends."""
    found = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=REPOSITORY, capture_output=True, text=True
    )
    return {name.split(".")[0] for name in re.findall(r"^import time:.*\|\s*(\S+)$", found.stderr, re.MULTILINE)}


if __name__ == "__main__":
    show(measure())
