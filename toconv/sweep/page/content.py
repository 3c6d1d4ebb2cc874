"""All that the page shows, gathered before a line of it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from toconv.sweep.configurations import MEASURES, SPLITS, Configuration, Measure, configurations
from toconv.sweep.lost import Lost
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import front, recommended
from toconv.sweep.spec import Sweep


@dataclass(frozen=True)
class Content:
    """A sweep as it stands."""

    sweep: Sweep
    records: Sequence[TrialRecord]
    importances: Mapping[str, Mapping[str, float]]  # {cell: {setting: share}}
    facts: Mapping[str, Any]  # versions, python, machine, git_commit
    command: str  # as it was typed
    fingerprint: str  # of the tokens
    images: Mapping[str, int] = field(default_factory=dict)  # of each split, crops counted singly
    hours: float = 0.0  # of all starts
    debug: Mapping[str, str] = field(default_factory=dict)  # {trial_id of a failed trial: the command that runs it}
    epochs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # {trial_id: rows of metrics.jsonl}
    lost: Lost = field(default_factory=Lost)

    @cached_property
    def complete(self) -> list[TrialRecord]:
        return [r for r in self.records if r.kind == "trial" and r.state == "complete"]

    @cached_property
    def baselines(self) -> list[TrialRecord]:
        return [r for r in self.records if r.kind == "baseline"]

    @cached_property
    def front(self) -> list[TrialRecord]:
        return front(self.records, self.sweep.file.objectives)

    @cached_property
    def recommended(self) -> dict[int, TrialRecord]:
        return recommended(self.records)

    @cached_property
    def configurations(self) -> list[Configuration]:
        return configurations(self.records)

    def configuration(self, trial: TrialRecord) -> Configuration:
        """The one that a complete trial belongs to."""
        return next(c for c in self.configurations if trial in c.trials)

    @cached_property
    def sizes(self) -> list[int]:
        """Every number of tokens that has a result."""
        return sorted({r.tokens for r in [*self.complete, *self.baselines]})

    @cached_property
    def measured(self) -> list[tuple[str, Measure]]:
        """(prefix of the split, measure) of all that configurations have: validation first."""
        return [(prefix, m) for prefix in SPLITS for m in MEASURES
                if any(c.estimate(prefix + m.name) for c in self.configurations)]

    @cached_property
    def settings(self) -> list[str]:
        """Every setting that differs between trials, those of finalists included."""
        own = (key for r in self.records if r.kind != "baseline" for key in r.params)
        return list(dict.fromkeys([*self.sweep.searched(), *own]))


def gather(driver: Any, facts: Mapping[str, Any], command: str, debug: Callable[[TrialRecord], str]) -> Content:
    """Everything of a sweep whose driver stands still."""
    from toconv.durable import read_rows
    from toconv.paths import TrialPaths
    from toconv.sweep.lost import where_lost
    from toconv.tokens.store import TokenStore

    records, store = driver.records(), TokenStore(driver.tokens)
    epochs = {r.trial_id: read_rows(TrialPaths(r.folder).metrics) for r in records if r.folder}
    return Content(
        sweep=driver.sweep, records=records, importances=driver.ledger.importances(), facts=facts, command=command,
        fingerprint=store.fingerprint, images={split: store.count(split) for split in ("train", "val", "test")},
        hours=driver.spent.hours, debug={r.trial_id: debug(r) for r in records if r.state == "failed"}, epochs=epochs,
        lost=where_lost(driver.sweep.base, driver.tokens, recommended(records)))
