"""docs/performance_gpu.md from the JSON of a run, or from none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.card import CARD, POWER_LIMIT, TORCH
from benchmarks.gpu.launches import HOST_WAITS
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.results import DONE, NOT_RUN
from benchmarks.gpu.scale import CARD as CARD_SCALE

Rows = list[dict[str, Any]]
Content = dict[str, Any]
NO_GPU = "Not run: no GPU was at hand. What follows is what `python -m benchmarks gpu` measures, in at most 8 minutes."


@dataclass(frozen=True)
class Goal:
    says: str
    value: Callable[[dict[str, Rows]], float | None]
    bound: float
    higher_is_better: bool = True

    def row(self, rows: dict[str, Rows]) -> str:
        value, sign = self.value(rows), "≥" if self.higher_is_better else "≤"
        reached = NOT_RUN if value is None else f"{value:.3g}"
        met = "" if value is None else "met" if self._meets(value) else "**not met**"
        return f"| {self.says} | {reached} | {sign} {self.bound:g} | {met} |"

    def _meets(self, value: float) -> bool:
        return value >= self.bound if self.higher_is_better else value <= self.bound


def best_share(rows: dict[str, Rows]) -> float | None:
    """Of the step, however it is launched, at the goals' size."""
    large = CARD_SCALE.large
    wanted = {"k": large.k, "batch": large.batch, "precision": "bf16"}
    several = [row for name in ("step", "graph", "compiled") for row in rows[name]]
    return _largest([row for row in several if wanted.items() <= row.items()], "share")


def _largest(rows: Rows, key: str) -> float | None:
    return max((row[key] for row in rows if key in row), default=None)


def _reading(how: str) -> Callable[[dict[str, Rows]], float | None]:
    return lambda rows: _largest([row for row in rows["reading"] if row["how"] == how], "share_of_step")


def _in_fp32(rows: dict[str, Rows]) -> float | None:
    return _largest([row for row in rows["naive"] if row["ours"].startswith("fp32")], "times_faster")


GOALS = (
    Goal("the step at batch 256 in bf16, at its fastest, against its products", best_share, 0.70),
    Goal(
        HOST_WAITS, lambda rows: _largest([r for r in rows["launches"] if r["what"] == HOST_WAITS], "value"), 1, False
    ),
    Goal("reading a split that is kept on the GPU, as a share of the step", _reading("kept on the GPU"), 0.03, False),
    Goal("reading from pinned memory, as a share of the step", _reading("pinned memory, file cache warm"), 0.03, False),
    Goal("the encoder against its products", lambda rows: _largest(rows["encoder"], "share"), 0.90),
    Goal("times that the naive step takes ours, both in fp32", _in_fp32, 3),
)


def text(content: Content | None) -> str:
    """The page as Markdown. None: of no run."""
    parts = content["parts"] if content else {}
    rows: dict[str, Rows] = {part.name: parts.get(part.name, {}).get("rows", []) for part in PARTS}
    goals = ["| Goal | Reached | Bound | |", "|---|---|---|---|", *(goal.row(rows) for goal in GOALS)]
    sections = [
        line for part in PARTS for line in _section(part, parts.get(part.name, {"state": NOT_RUN}), rows[part.name])
    ]
    return "\n".join(["# Performance on a GPU", "", _headline(content, rows["card"]), "", *goals, "", *sections])


def _headline(content: Content | None, card: Rows) -> str:
    if content is None:
        return NO_GPU
    said = {row["what"]: row.get("value") for row in card}
    tiny = " Tried with tiny sizes: its figures say nothing." if content["tiny"] else ""
    return (
        f"Written by `python -m benchmarks gpu` on {content['started']} in {content['seconds']:.0f} s: "
        f"{said.get(CARD, 'card not known')}, power limit {said.get(POWER_LIMIT, 'not known')}, torch "
        f"{said.get(TORCH, 'not known')}.{tiny} Each part is measured against its limit in the same run; a value that "
        "could not be had stands with its reason."
    )


def _section(part: Part, found: Content, rows: Rows) -> list[str]:
    lines = [f"## {part.title}", "", part.says[0].upper() + part.says[1:] + f"; at most {part.seconds:.0f} s.", ""]
    if found["state"] != DONE:
        lines += [f"{found['state'].capitalize()}{': ' + found['error'] if 'error' in found else ''}.", ""]
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines += ["| " + " | ".join(column.replace("_", " ") for column in columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
        lines.append("")
    return lines


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|")
