"""`python -m benchmarks gpu`: every part in a process of its own, what it found on the disk row by row."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.comparison import REPOSITORY
from benchmarks.gpu import page
from benchmarks.gpu.forked import CutOff, once, stream
from benchmarks.gpu.lab import Lab, said
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.results import CUT_OFF, DONE, ERROR, NOT_RUN, RUNNING, Results
from benchmarks.gpu.scale import CARD, TINY
from benchmarks.gpu.timing import tf32
from benchmarks.products import Products
from toconv.errors import ExitCode
from toconv.paths import write_atomic

LEAST = 3.0  # seconds that a part must have left to be begun
START_SECONDS = 60.0  # that CUDA may take to answer
BENCH = REPOSITORY / "outputs" / "bench"


def main(arguments: list[str]) -> int:
    """0 where every part was done, 3 where some were not, 2 where the request cannot be met."""
    asked = _parser().parse_args(arguments)
    unknown = sorted(set(asked.parts) - {part.name for part in PARTS})
    if unknown:
        print(f"error: no such part: {', '.join(unknown)}; choose from {', '.join(part.name for part in PARTS)}")
        return ExitCode.REQUEST
    if not asked.tiny and not once(torch.cuda.is_available, START_SECONDS):
        print("error: torch finds no GPU here; --tiny tries all of it on the CPU")
        return ExitCode.REQUEST
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.INTERRUPTED))  # what was begun is ended, and removed
    chosen = [part for part in PARTS if not asked.parts or part.name in asked.parts]
    name = "gpu_tiny" if asked.tiny else "gpu"
    results = Results(asked.json or BENCH / f"{name}.json", [part.name for part in chosen], tiny=asked.tiny)
    whole = REPOSITORY / "docs" / "performance_gpu.md"
    shown = asked.page or (results.path.with_suffix(".md") if asked.tiny or asked.parts else whole)
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder, tf32(False):  # parts that measure it allow it
        device = torch.device("cpu") if asked.tiny else torch.device("cuda", 0)
        _run(chosen, Lab(TINY if asked.tiny else CARD, device, Path(folder)), results, shown, asked.seconds)
    print(f"{results.path}\n{shown}")
    done = all(found["state"] == DONE for found in results.content["parts"].values())
    return ExitCode.DONE if done else ExitCode.TRIALS_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__, epilog=_names())
    parser.add_argument("parts", nargs="*", metavar="PART", help="measure these alone")
    parser.add_argument("--tiny", action="store_true", help="all of it with tiny sizes on the CPU, in under a minute")
    parser.add_argument("--seconds", type=float, default=460.0, help="that all parts may take together (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go (outputs/bench/gpu.json)")
    parser.add_argument("--page", type=Path, help="where the page goes (docs/performance_gpu.md)")
    parser.add_argument("--folder", type=Path, help="where 20 GB of tokens are put for the time of the run")
    return parser


def _names() -> str:
    return "parts: " + ", ".join(part.name for part in PARTS)


def _run(parts: list[Part], lab: Lab, results: Results, shown: Path, seconds: float) -> None:
    """The page is anew after each part, so that a run that is cut off has one."""
    deadline = time.monotonic() + seconds
    with Products():
        torch.zeros(1)  # the first operation that is looked at imports torch's compiler: here, once for all parts
    for part in parts:
        left = deadline - time.monotonic()
        if left < LEAST:
            results.state(part.name, NOT_RUN, error=f"the {seconds:.0f} s were over")
        else:
            _measure(part, lab, results, min(part.seconds, left))
        write_atomic(shown, page.text(results.content))


def _measure(part: Part, lab: Lab, results: Results, seconds: float) -> None:
    results.state(part.name, RUNNING)
    print(f"{part.name} …", flush=True)
    start, state, more = time.monotonic(), DONE, {}
    try:
        for row in stream(partial(part.rows, lab), seconds):
            results.row(part.name, row)
            print("  " + ", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    except CutOff as error:
        state, more = CUT_OFF, {"error": str(error)}
    except Exception as error:  # of whatever kind: the other parts go on
        state, more = ERROR, {"error": said(error)}
    failed = sum("error" in row for row in results.content["parts"][part.name]["rows"])
    if failed and not more:
        state, more = ERROR, {"error": f"{failed} row(s) failed"}
    took = round(time.monotonic() - start, 1)
    results.state(part.name, state, seconds=took, **more)
    print(f"  {state} after {took} s{': ' + str(more['error']) if more else ''}", flush=True)
