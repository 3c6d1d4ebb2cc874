"""How long a command takes to its first training step, and what it may not import before it must."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.comparison import Ratio, median_and_spread, ratio_of, show
from toconv.paths import REPOSITORY

IMPORTS = "import torch, ray.tune, optuna, mlflow"
HEAVY = {"torch", "ray"}
LIGHT = {"import toconv": ["-c", "import toconv"], "run_sweep.py --help": ["run_sweep.py", "--help"],
         "train.py --help": ["train.py", "--help"],
         "an unknown key": ["run_sweep.py", "sweeps/grid_sizes.yaml", "training.epoch=4"],
         "a value out of range": ["train.py", "training.batch_size=0"]}
SWEEP = ["run_sweep.py", "sweeps/grid_sizes.yaml", "name=bench_start_up", "data.crops=1", "training.epochs=1", "trials=1",
         "model.compressor.output_grid_size=6"]


def measure(rounds: int = 3) -> list[Ratio]:
    folder = REPOSITORY / "outputs" / "bench_start_up"
    python(*SWEEP)  # tokens and baselines are present from here on
    ours, theirs = [], []
    for number in range(rounds):
        shutil.rmtree(folder)
        ours.append(_to_first_step(folder, number))
        start = time.perf_counter()
        python("-c", IMPORTS)
        theirs.append(time.perf_counter() - start)
    shutil.rmtree(folder)
    middle = [median_and_spread(t)[0] for t in (ours, theirs)]
    heavy = {what: found for what, arguments in LIGHT.items() if (found := imported(*arguments) & HEAVY)}
    return [
        ratio_of("from command to first training step against importing the libraries", ours, theirs, 2.0,
                 f"run_sweep.py to a worker's first step: {middle[0]:.1f} s; {IMPORTS}: {middle[1]:.1f} s",
                 "Ray's start and a worker's own import of torch come after the driver's imports", False),
        Ratio("light commands that import torch or ray", len(heavy), 0, False, 0.0,
              f"of {', '.join(LIGHT)}: {heavy or 'none'}"),
    ]


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, check=True, capture_output=True)


def _to_first_step(folder: Path, seed: int) -> float:
    """Seconds until a worker has opened its trial and steps; another seed, so that no finished trial is adopted."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *SWEEP, f"training.seed={100 + seed}"], cwd=REPOSITORY,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(folder.glob("trials/*/worker.json")):
        if process.poll() is not None:
            raise RuntimeError(f"the sweep ended with {process.returncode} before its first step")
        time.sleep(0.02)
    took = time.perf_counter() - start
    process.wait()
    return took


def imported(*arguments: str) -> set[str]:
    """Top-level names that a command imports, however it ends."""
    found = subprocess.run([sys.executable, "-X", "importtime", *arguments], cwd=REPOSITORY, capture_output=True,
                           text=True)
    return {name.split(".")[0] for name in re.findall(r"^import time:.*\|\s*(\S+)$", found.stderr, re.MULTILINE)}


if __name__ == "__main__":
    show(measure())
