"""docs/performance.md from one run of the benchmarks."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.comparison import Ratio, processor
from toconv.paths import write_atomic

NOT_RUN = """## Written for GPUs, not run

No GPU was at hand. `python -m benchmarks gpu` measures on one (performance_gpu.md). What follows is written as PyTorch
documents it, and has not been run:

- tokens of a split are kept on the GPU when they take less than a quarter of its free memory
  (`toconv/tokens/batches.py`); otherwise the next batch travels from pinned memory, on a stream of its own, while this
  one is worked on
- AdamW and Adam are fused (`fused=True`; on the CPU too, where it is measured above)
- maps of tokens are channels-last by construction: `grid.to_map` is a view of (B, N, C) tokens
- `hardware.compile=true` compiles compressor and decoder; `auto` decides by a table (`toconv/hardware.py`), said in the
  first lines
- a step that runs out of memory is taken in halves (`training.micro_batch`)
- bf16 autocast for compressor and decoder; critic, penalty and losses stay fp32
"""


TITLES = {"growth": "How time grows", "leanness": "Distortion against device-seconds, for three sizes of the networks"}


def write_page(path: Path, found: Mapping[str, Sequence[Ratio]], says: Mapping[str, Sequence[str]]) -> None:
    """The table of ratios, what stands behind each, and a section for each figure with what it says."""
    ratios = [ratio for some in found.values() for ratio in some]
    figures = [
        line
        for name, lines in says.items()
        for line in (f"## {TITLES[name]}", "", f"![{TITLES[name]}](performance_{name}.png)", "", *lines, "")
    ]
    write_atomic(
        path,
        "\n".join(
            [
                "# Performance",
                "",
                f"Written by `make bench` on {datetime.date.today()}: {machine()}.",
                "Every ratio is the median of rounds that ran both sides in turns, ± half the range between the "
                "quartiles; without "
                "± it was measured once.",
                "",
                "| What | Ratio | Floor | |",
                "|---|---|---|---|",
                *map(_row, ratios),
                "",
                "## What was measured, and what limits it",
                "",
                *(f"- **{name(r)}**: {r.says}{f'. Limit: {r.limit}' if r.limit else ''}." for r in ratios),
                "",
                *figures,
                "One part alone: `python -m benchmarks NAME`, NAME one of " + ", ".join([*found, *says]) + ".",
                "",
                NOT_RUN,
            ]
        ),
    )


def name(ratio: Ratio) -> str:
    return ratio.name[0].upper() + ratio.name[1:]


def _row(ratio: Ratio) -> str:
    sign = "≥" if ratio.higher_is_better else "≤"
    verdict = f"**{ratio.verdict}**" if ratio.meets is False else ratio.verdict
    return f"| {name(ratio)} | {ratio.quoted} | {sign} {ratio.floor:g} | {verdict} |"


def machine() -> str:
    """Processor features and library versions that decide the numbers, without the machine's name."""
    return (
        f"{torch.get_num_threads()} CPU threads ({processor()}), no GPU, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
