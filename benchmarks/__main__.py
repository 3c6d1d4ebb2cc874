"""`make bench`: every measurement, outputs/bench/bench.json and docs/performance.md."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.comparison import REPOSITORY, Ratio, show
from benchmarks.page import write_page
from toconv.errors import ExitCode, RequestError
from toconv.paths import write_atomic

RATIOS = ("token_reading", "training_step", "encoding", "start_up", "sweep_overhead", "second_trial", "downstream")
FIGURES = ("growth", "leanness")
COMMANDS = {  # by themselves, with options
    "gpu": "benchmarks.gpu.command",
    "many_trials": "benchmarks.many_trials",
    "large_store": "benchmarks.large_store",
    "stored_dtypes": "benchmarks.stored_dtypes",
}
USAGE = f"""python -m benchmarks [NAME ...]
Measures all of {", ".join((*RATIOS, *FIGURES))}, or those named. All of them together write
outputs/bench/bench.json and docs/performance.md with its figures. `python -m benchmarks gpu --help`: on a GPU;
`many_trials --help`: a sweep that grows to 2,000 trials; `large_store --help`: a start on a million pictures;
`stored_dtypes --help`: what tokens in int8 change."""


def main(names: list[str]) -> ExitCode:
    """Raises RequestError on a name that is not there."""
    from toconv.progress import console, duration  # rich, which `gpu` does without

    unknown = sorted(set(names) - {*RATIOS, *FIGURES})
    if unknown:
        raise RequestError(f"no such measurement: {', '.join(unknown)}\n{USAGE}")
    start, ratios, says = time.monotonic(), dict[str, list[Ratio]](), dict[str, list[str]]()
    for name in names or (*RATIOS, *FIGURES):
        console.print(f"{name} …")
        module, began = importlib.import_module(f"benchmarks.{name}"), time.monotonic()
        if name in RATIOS:
            ratios[name] = module.measure()
            show(ratios[name])
        else:
            says[name] = module.draw(figure_path(name))
            console.print("\n".join([*says[name], str(figure_path(name))]))
        console.print(f"{name} took {duration(time.monotonic() - began)}")
    console.print(f"measured in {duration(time.monotonic() - start)} with torch {torch.__version__}")
    if not names:
        folder = REPOSITORY / "outputs" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [ratio.as_json() for some in ratios.values() for ratio in some]
        write_atomic(folder / "bench.json", json.dumps(lines, indent=1))
        write_page(REPOSITORY / "docs" / "performance.md", ratios, says)
        console.print(f"{folder / 'bench.json'}\n{Path('docs', 'performance.md')}")
    return ExitCode.DONE


def figure_path(name: str) -> Path:
    return REPOSITORY / "docs" / f"performance_{name}.png"


def run(words: list[str]) -> int:
    """`gpu` needs less than what is imported below."""
    if words and words[0] in COMMANDS:
        return int(importlib.import_module(COMMANDS[words[0]]).main(words[1:]))
    from toconv.command_line import run_command

    return run_command(lambda: sys.modules[__name__], words)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
