"""What a sweep has spent, over all its starts."""

import json
import time
from pathlib import Path

from pydantic import TypeAdapter

from toconv.paths import FOR_THE_OWNER, write_atomic
from toconv.settings import Group, Weight
from toconv.state_files import read_json
from toconv.sweep.schema import Budget

HOUR = 3600.0
REMEDY = (
    'write what the sweep has spent into it, e.g. {"hours": 1.5, "gpu_hours": 0}; or remove it: budgets then count '
    "from 0"
)


class Hours(Group):
    """What spent.json holds."""

    hours: Weight = 0.0
    gpu_hours: Weight = 0.0


class Spent:
    """Wall time of the sweep, and device time of its trials from hand-out to end, failed and repeated ones included."""

    def __init__(self, path: Path, gpu: float) -> None:
        """`gpu`: GPUs that one trial gets. `path` holds what earlier starts spent."""
        self._path, self.gpu = path, gpu
        before = read_json(path, TypeAdapter(Hours), REMEDY) if path.exists() else Hours()
        self._hours_before, self._gpu_hours = before.hours, before.gpu_hours
        self._start = time.monotonic()
        self._running: dict[str, float] = {}  # when each running trial was handed out

    def began(self, trial_id: str) -> None:
        self._running[trial_id] = time.monotonic()

    def ended(self, trial_id: str) -> None:
        start = self._running.pop(trial_id, None)
        if start is not None:
            self._gpu_hours += self.gpu * (time.monotonic() - start) / HOUR
        self.save()

    @property
    def hours(self) -> float:
        return self._hours_before + (time.monotonic() - self._start) / HOUR

    @property
    def gpu_hours(self) -> float:
        now = time.monotonic()
        return self._gpu_hours + self.gpu * sum(now - start for start in self._running.values()) / HOUR

    def over(self, budget: Budget) -> str | None:
        """Which limit is reached, if one is."""
        for name, spent in (("hours", self.hours), ("gpu_hours", self.gpu_hours)):
            limit = getattr(budget, name)
            if limit is not None and spent >= limit:
                return f"budget.{name}={limit:g}"
        return None

    def save(self) -> None:
        """Called as trials go on, so that a killed driver's time counts too."""
        write_atomic(self._path, json.dumps({"hours": self.hours, "gpu_hours": self.gpu_hours}), FOR_THE_OWNER)
