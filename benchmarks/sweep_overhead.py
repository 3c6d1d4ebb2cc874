"""A sweep of 16 short trials against what its trials take themselves, and against a plain Ray Tune script."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.comparison import REPOSITORY, Ratio, processor, show
from benchmarks.start_up import python
from toconv.config import compose

TRIALS, EPOCHS, WORKERS = 16, 6, 2
PART = 12  # of an epoch's pictures the plain script encodes one of so many
PLAIN_FLOOR = 10.0  # where a processor trains fast enough, against its encoding, that there is so much to save
N_CRITIC = compose({}).training.n_critic  # not searched, so that trials are alike in length
NAME = "bench_sweep"


def measure() -> list[Ratio]:
    wall, encoding, own = sweep_seconds(REPOSITORY / "outputs" / NAME)
    epoch = float(
        re.search(r"seconds an epoch: (\S+)", python("-m", "benchmarks.plain_ray_tune", str(WORKERS), str(PART)))[1]
    )
    plain = epoch * TRIALS / WORKERS * EPOCHS
    most = plain / (own / WORKERS) + 1  # times as fast as a script that encodes, were there nothing but trials
    return [
        Ratio(
            "a sweep of 16 short trials against its trials' own time",
            wall / (encoding + own / WORKERS),
            1.10,
            False,
            0.0,
            f"{TRIALS} trials of {EPOCHS} epochs on {WORKERS} workers: {wall:.0f} s, of which {encoding:.0f} s "
            f"encoding; the trials' own time (steps and evaluation) {own:.0f} s; n_critic is {N_CRITIC} throughout: "
            "where it is searched, trials differ in length, and half the time that the last one runs alone comes on "
            "top",
            "imports, Ray's start, the report",
        ),
        Ratio(
            "the same sweep as a plain Ray Tune script against ours",
            plain / wall,
            PLAIN_FLOOR,
            True,
            0.0,
            f"{epoch:.0f} s for {WORKERS} trials side by side to encode one epoch, times {EPOCHS} epochs and "
            f"{TRIALS // WORKERS} pairs of trials: {plain:.0f} s, its start and its training left out; ours "
            f"{wall:.0f} s",
            f"that script was run for 1/{PART} of one epoch of one pair, and multiplied",
            f"all that the script does takes {most:.1f} times the trials' own time on this CPU ({processor()})"
            if most < PLAIN_FLOOR
            else None,
        ),
    ]


def sweep_seconds(folder: Path) -> tuple[float, float, float]:
    """Of the sweep from its command to its end, of its encoding, and of its trials' own time."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as tokens:
        start = time.perf_counter()
        said = python(
            "run_sweep.py",
            "sweeps/grid_sizes.yaml",
            f"name={NAME}",
            f"data.tokens_dir={tokens}",
            f"training.epochs={EPOCHS}",
            "model.compressor.output_grid_size=6",
            "model.compressor.init=pool",  # as the plain script's compressor
            "baselines=false",  # once a store, and none of them the plain script's
            "training.test=false",
            f"trials={TRIALS}",
            f"training.n_critic={N_CRITIC}",
        )
        wall = time.perf_counter() - start
        _leave(Path(tokens), compose({}).data.tokens_dir)
    minutes, seconds = re.search(r"encoded\s+now\s+in\s+(?:(\d+)\s+min\s+)?(\d+)\s+s", said).groups(default="0")
    encoding = 60 * int(minutes) + int(seconds)
    with (folder / "results.csv").open(newline="") as file:
        own = sum(float(row["device_seconds"]) for row in csv.DictReader(file) if row["kind"] == "trial")
    shutil.rmtree(folder)
    return wall, encoding, own


def _leave(made: Path, tokens_dir: Path) -> None:
    """The store, with what was computed of it, where the measurements that come after look for it."""
    for store in (path for path in made.iterdir() if path.is_dir()):
        if not (tokens_dir / store.name).exists():
            shutil.copytree(store, tokens_dir / store.name)


if __name__ == "__main__":
    show(measure())
