"""The one JSON of a run, whole on the disk after every row."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.lab import Row
from toconv.paths import write_atomic

RUNNING, DONE, ERROR, CUT_OFF, NOT_RUN = "running", "done", "error", "cut off", "not run"


class Results:
    """{started, tiny, seconds, parts: {name: {state, seconds, rows, error?}}}"""

    def __init__(self, path: Path, names: list[str], **facts: Any) -> None:
        self.path, self._clock = path, time.monotonic()
        parts = {name: {"state": NOT_RUN, "rows": []} for name in names}
        self.content: dict[str, Any] = {"started": time.strftime("%Y-%m-%d %H:%M"), **facts, "parts": parts}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def row(self, name: str, row: Row) -> None:
        self.content["parts"][name]["rows"].append(row)
        self._write()

    def state(self, name: str, state: str, **more: Any) -> None:
        self.content["parts"][name] |= {"state": state, **more}
        self._write()

    def _write(self) -> None:
        self.content["seconds"] = round(time.monotonic() - self._clock, 1)
        write_atomic(self.path, json.dumps(self.content, indent=1, ensure_ascii=False))
