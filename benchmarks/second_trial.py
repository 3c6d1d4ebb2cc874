"""What a second trial adds to the memory of a machine, against a trial whose token store is no bigger than a batch."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.comparison import Ratio, show
from benchmarks.synthetic import random_codes, synthetic_store
from toconv.config import compose
from toconv.hardware import keep_freed_memory
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training

IMAGES, CHANNELS, BATCH, STEPS = 2048, 384, 32, 6
MEGABYTE = 2**20


def train_and_wait(folder: Path) -> None:
    """A trial's work, STEPS steps and every token read, then wait for stdin's end."""
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = compose({"training.batch_size": BATCH})
    training = Training(settings, TokenStore(folder), torch.device("cpu"))
    epochs = (training.train.shuffled(training.shuffle) for _ in itertools.count())
    batches = itertools.islice(itertools.chain.from_iterable(epochs), max(STEPS, len(training.train)))
    for number, (images_B, x_BNC) in enumerate(batches):
        if number < STEPS:
            training.step(x_BNC, images_B)
    print("ready", flush=True)
    sys.stdin.read()


def measure() -> list[Ratio]:
    with tempfile.TemporaryDirectory() as folder:
        small = synthetic_store(Path(folder, "small"), BATCH, CHANNELS)
        large = synthetic_store(Path(folder, "large"), IMAGES, CHANNELS)
        for store in (small, large):
            random_codes(store, compose({}).model.compressor.output_grid_size)
        own, added = _added(small), _added(large)
    size = IMAGES * small.grid_size**2 * CHANNELS * 2
    return [
        Ratio(
            "memory that a second trial adds, against its own networks and batches",
            added / own,
            1.10,
            False,
            0.0,
            f"beside a first trial on the same store of {size / MEGABYTE:.0f} MB the second adds "
            f"{added / MEGABYTE:.0f} MB; "
            f"on a store of one batch {own / MEGABYTE:.0f} MB (pages that no other process has)",
            "what the allocator keeps of freed batches",
        )
    ]


def _added(store: TokenStore) -> int:
    """Bytes that the second of two processes on `store` has for itself alone."""
    processes = []
    try:
        for _ in range(2):
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.second_trial", str(store.folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            if processes[-1].stdout.readline().strip() != "ready":
                raise RuntimeError("a trial ended before it was measured")
        return unique_set_size(processes[-1].pid)
    finally:
        for process in processes:
            process.stdin.close()
            process.wait()


def unique_set_size(pid: int) -> int:
    """Bytes of a process that it shares with no other, which its end would give back (proc(5), smaps_rollup)."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(1024 * int(words[1]) for words in lines if words[0] in ("Private_Clean:", "Private_Dirty:"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train_and_wait(Path(sys.argv[1]))
    else:
        show(measure())
