"""`make bench`: every measurement, outputs/bench/bench.json and docs/performance.md."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.comparison import Ratio, show
from benchmarks.page import write_page
from toconv.command_line import run, same_command
from toconv.errors import ExitCode, RequestError
from toconv.paths import REPOSITORY, write_atomic
from toconv.progress import console, duration

RATIOS = ("token_reading", "training_step", "encoding", "start_up", "sweep_overhead", "second_trial")
USAGE = f"""python -m benchmarks [NAME ...]
Measures all of {', '.join(RATIOS)}, or those named. All of them together write
outputs/bench/bench.json and docs/performance.md."""


def bench(names: list[str]) -> ExitCode:
    """Raises RequestError on a name that is not there."""
    unknown = sorted(set(names) - set(RATIOS))
    if unknown:
        raise RequestError(f"no such measurement: {', '.join(unknown)}\n{USAGE}")
    start, found = time.monotonic(), dict[str, list[Ratio]]()
    for name in names or RATIOS:
        console.print(f"{name} …")
        found[name] = importlib.import_module(f"benchmarks.{name}").measure()
        show(found[name])
    console.print(f"measured in {duration(time.monotonic() - start)} with torch {torch.__version__}")
    if not names:
        folder = REPOSITORY / "outputs" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [ratio.as_json() for ratios in found.values() for ratio in ratios]
        write_atomic(folder / "bench.json", json.dumps(lines, indent=1))
        write_page(REPOSITORY / "docs" / "performance.md", found)
        console.print(f"{folder / 'bench.json'}\n{Path('docs', 'performance.md')}")
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(run(bench, USAGE, same_command))
