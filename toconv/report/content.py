"""All that the page shows, gathered before a line of it is written."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from toconv.analysis.pareto import front, recommended
from toconv.analysis.records import Kind, State, TrialRecord
from toconv.analysis.seeds import SeedGroup
from toconv.errors import ToconvError
from toconv.evaluation.metrics import Metric, own_metric
from toconv.paths import OUTPUTS, SweepPaths
from toconv.progress import printable
from toconv.report.error_maps import ErrorMaps, compute_error_maps
from toconv.report.front_data import DISTORTION, Results
from toconv.settings import DataSettings
from toconv.sweep.driver import Driver
from toconv.sweep.file import Sweep
from toconv.sweep.inbox import Inbox
from toconv.sweep.request import grown
from toconv.sweep.stopping import Course
from toconv.tokens.images import listed_and_skipped
from toconv.tokens.manifest import SPLITS
from toconv.tokens.store import TokenStore
from toconv.training.epochs import Epoch, read_epochs


@dataclass(frozen=True)
class Unfinished:
    """Of a sweep that is not at its end."""

    left: int  # trials, finalists and evaluations that have not ended
    planned: int
    known: float  # until when, in seconds since the epoch


@dataclass(frozen=True)
class Content(Results):
    """A sweep as it stands."""

    sweep: Sweep
    importances: Mapping[str, Mapping[str, float]]  # {cell: {setting: share}}
    facts: Mapping[str, Any]  # versions, python, machine, git_commit, command as it was typed
    fingerprint: str  # of the tokens
    images: Mapping[str, int] = field(default_factory=dict)  # of each split, crops counted singly
    refused: Mapping[str, int] = field(default_factory=dict)  # draws, by the rule of the settings
    hours: float = 0.0  # of all starts
    epochs: Mapping[str, Sequence[Epoch]] = field(default_factory=dict)  # {trial_id: of its training}
    error_maps: ErrorMaps = field(default_factory=ErrorMaps)
    skipped: Mapping[str, str] = field(default_factory=dict)  # {picture: why}, with data.unreadable=skip
    courses: Mapping[str, Course] = field(default_factory=dict)  # {cell: of its hypervolume}, for `stop_when`
    growths: Sequence[str] = ()  # starts with another file, and what changed
    steered: Sequence[str] = ()  # what was asked of the sweep while it ran, and what came of it
    unfinished: Unfinished | None = None

    @property
    def paths(self) -> SweepPaths:
        """As they are typed in the working directory."""
        return SweepPaths(OUTPUTS / self.sweep.file.name)

    @cached_property
    def front(self) -> set[str]:
        """The trial_ids of the front of the sweep's objectives."""
        return {r.trial_id for r in front(self.records, self.sweep.file.objectives)}

    @property
    def own(self) -> list[Metric]:
        """Higher is taken for better where no objective says so."""
        asked, directions = self.sweep.file.evaluation, self.sweep.file.objectives
        names = asked.metric if asked else ()
        return [own_metric(name, directions.get(name) == "minimize") for name in names]

    def standing(self, record: TrialRecord) -> str:
        """`recommended`, `front` or `other`."""
        if self.recommended.get(record.tokens) is record:
            return "recommended"
        return "front" if record.trial_id in self.front else "other"

    def seed_group(self, trial: TrialRecord) -> SeedGroup:
        """The one that a complete trial belongs to."""
        return next(group for group in self.seed_groups if trial in group.trials)

    @cached_property
    def settings(self) -> list[str]:
        """Every setting that differs between trials, those of finalists included."""
        own = (key for r in self.records if r.kind != Kind.BASELINE for key in r.params)
        return list(dict.fromkeys([*self.sweep.searched(), *own]))


def gather(driver: Driver, facts: Mapping[str, Any]) -> Content:
    """Everything of a sweep, as its ledger has it now."""
    known, left = time.time(), driver.left()
    records, store = driver.records(), TokenStore(driver.store)
    return Content(
        records=records,
        sweep=driver.sweep,
        importances=driver.ledger.importances(),
        facts=facts,
        fingerprint=store.fingerprint,
        images={split: store.count(split) for split in SPLITS},
        refused=driver.ledger.refused(),
        hours=driver.spent.hours,
        epochs={r.trial_id: read_epochs(r.paths.metrics) for r in records if r.folder},
        error_maps=_error_maps(driver, records),
        skipped=_skipped(driver.sweep.base.data),
        courses={c.name: found for c in driver.sweep.cells() if (found := driver.ledger.course(c.name))},
        growths=[growth.says for growth in grown(driver.paths)],
        steered=Inbox(driver.paths).history(),
        unfinished=Unfinished(left, driver.planned(), known) if left else None,
    )


def _error_maps(driver: Driver, records: Sequence[TrialRecord]) -> ErrorMaps:
    """Of what is recommended, and of the best others whose checkpoints were kept."""
    best = recommended(records)
    kept = [r for r in records if r.kept and r.state == State.COMPLETE and best.get(r.tokens) is not r]
    return compute_error_maps(
        driver.sweep.base, driver.store, best, sorted(kept, key=lambda r: r.values[DISTORTION.name])
    )


def _skipped(data: DataSettings) -> dict[str, str]:
    """By their paths, as far as the pictures are still there."""
    try:
        return {printable(str(path)): why for path, why in listed_and_skipped(data)[1].items()}
    except (ToconvError, OSError):
        return {}
