"""What the driver knows of a sweep: its trials, their results, and who is to be told. Knows no Ray."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from toconv import __version__
from toconv.durable import read_rows
from toconv.errors import RequestError
from toconv.identity import code_version, deciding, trial_id
from toconv.paths import SweepPaths, TrialPaths, write_atomic
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import write_results
from toconv.sweep.search import Entry, Ledger, Proposal, State
from toconv.sweep.spec import Sweep
from toconv.sweep.tracking import BackgroundTracker
from toconv.sweep.trainable import TrialRequest

STATE_NAMES = {State.RUNNING: "running", State.COMPLETE: "complete", State.PRUNED: "pruned", State.FAILED: "failed"}


def definition(sweep: Sweep, fingerprint: str) -> dict[str, Any]:
    """What makes this sweep this sweep. Trials, budget and resources may change between two starts."""
    file = sweep.file.model_dump(mode="json")
    return {"settings": deciding(sweep.base), "tokens": fingerprint, "code": code_version(),
            **{key: file[key] for key in ("grid", "search", "objectives", "sampler", "early_stopping")}}


def record_request(sweep: Sweep, paths: SweepPaths, fingerprint: str, facts: Mapping[str, Any]) -> None:
    """Write sweep.yaml. Raises RequestError where the folder holds a sweep that is defined otherwise."""
    wanted = definition(sweep, fingerprint)
    if paths.request.exists():
        found = yaml.safe_load(paths.request.read_text())["definition"]
        changed = [f"{key}: was {was!r}, now {now!r}" for key, was, now in _differences(found, wanted)]
        if changed:
            raise RequestError(f"{paths.root}: holds a sweep that is defined otherwise; ask for what it was, or "
                               "choose another name=. " + "; ".join(changed))
    content = {"toconv": __version__, **facts, "definition": wanted,
               "request": sweep.file.model_dump(mode="json"), "overrides": dict(sweep.overrides),
               "base": sweep.base.model_dump(mode="json")}
    paths.root.mkdir(parents=True, exist_ok=True)
    write_atomic(paths.request, yaml.safe_dump(content, sort_keys=False))


def _differences(found: Any, wanted: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        return [d for key in sorted({*found, *wanted})
                for d in _differences(found.get(key), wanted.get(key), f"{prefix}{key}.")]
    return [] if found == wanted else [(prefix.rstrip("."), found, wanted)]


def make_request(sweep: Sweep, params: Mapping[str, Any], tokens: Path, folder: TrialPaths) -> TrialRequest:
    settings = sweep.settings(params).model_dump(mode="json")
    threads = max(1, math.floor(sweep.file.resources.cpu))
    return TrialRequest(settings, str(tokens), str(folder.folder), threads)


class Driver:
    """Hands out proposals, takes results, keeps ledger, tracking and results.csv in step."""

    def __init__(self, sweep: Sweep, paths: SweepPaths, tokens: Path, fingerprint: str) -> None:
        self.sweep, self.paths, self.tokens = sweep, paths, tokens
        self._fingerprint = fingerprint
        self.ledger = Ledger(sweep, paths.study, self.identify)
        self._adopted = self.ledger.open_proposals()
        self.adopted = len(self._adopted)
        self.open: dict[str, Proposal] = {}  # by trial_id, handed out and not ended
        self.rows = self._last_rows()  # the latest row of each trial that ran
        self._start = time.monotonic()
        self.baselines: list[TrialRecord] = []
        self.tracker: BackgroundTracker | None = None

    def _last_rows(self) -> dict[str, dict[str, Any]]:
        rows = {e.proposal.trial_id: read_rows(self.paths.trial(e.proposal.trial_id).metrics)
                for e in self.ledger.entries()}
        return {trial: found[-1] for trial, found in rows.items() if found}

    def identify(self, params: Mapping[str, Any]) -> str:
        return trial_id(self.sweep.settings(params), self._fingerprint)

    def next_proposal(self) -> Proposal | None:
        """A trial to run: unfinished ones first. None where nothing is left to begin."""
        proposal = self._adopted.pop(0) if self._adopted else self.ledger.propose(
            Counter(p.cell for p in self.open.values()))
        if proposal is not None:
            self.open[proposal.trial_id] = proposal
        return proposal

    def request(self, proposal: Proposal) -> TrialRequest:
        return make_request(self.sweep, proposal.params, self.tokens, self.paths.trial(proposal.trial_id))

    def progressed(self, proposal: Proposal, row: dict[str, Any]) -> None:
        self.rows[proposal.trial_id] = row
        self._track(proposal)

    def completed(self, proposal: Proposal) -> None:
        metrics = self.rows[proposal.trial_id]["metrics"]
        self.ledger.complete(proposal, {**metrics, "tokens": self.sweep.tokens(proposal.params)})
        self._ended(proposal)

    def pruned(self, proposal: Proposal) -> None:
        self.ledger.prune(proposal, self.rows[proposal.trial_id]["epoch"])
        self._ended(proposal)

    def failed(self, proposal: Proposal, reason: str) -> None:
        self.ledger.fail(proposal, reason)
        self._ended(proposal)

    def released(self, proposal: Proposal) -> None:
        """Stopped without a verdict: the trial stays open in the ledger and goes on at the next start."""
        self.open.pop(proposal.trial_id, None)

    def budget_spent(self) -> str | None:
        """Which budget is spent, if one is. Hours count this start; GPU-hours count every start."""
        budget, gpu = self.sweep.file.budget, self.sweep.file.resources.gpu
        hours = (time.monotonic() - self._start) / 3600
        if budget.hours is not None and hours >= budget.hours:
            return f"budget.hours={budget.hours:g}"
        if budget.gpu_hours is not None:
            seconds = sum(row["seconds"] for row in self.rows.values())
            if gpu * seconds / 3600 >= budget.gpu_hours:
                return f"budget.gpu_hours={budget.gpu_hours:g}"
        return None

    def _ended(self, proposal: Proposal) -> None:
        self.open.pop(proposal.trial_id, None)
        self._track(proposal)

    def _track(self, proposal: Proposal) -> None:
        if self.tracker:
            self.tracker.submit(self.record(self.ledger.entry(proposal)))

    def record(self, entry: Entry) -> TrialRecord:
        """One trial as tracking and the report see it; its final values are its last epoch's."""
        proposal, folder = entry.proposal, self.paths.trial(entry.proposal.trial_id).folder
        rows = read_rows(self.paths.trial(proposal.trial_id).metrics)
        ended = entry.state in {State.COMPLETE, State.PRUNED} and rows
        return TrialRecord(
            trial_id=proposal.trial_id, name=proposal.name, kind="trial", state=STATE_NAMES[entry.state],
            cell=proposal.cell, tokens=self.sweep.tokens(proposal.params), params=dict(proposal.params),
            values=dict(rows[-1]["metrics"]) if ended else {},
            device_seconds=rows[-1]["seconds"] if rows else None, folder=folder, reason=entry.reason)

    def records(self) -> list[TrialRecord]:
        """Every trial, then every baseline."""
        return [self.record(entry) for entry in self.ledger.entries()] + self.baselines

    def write_results(self, run_ids: Mapping[str, str]) -> None:
        write_results(self.paths.results, self.records(), run_ids, self.sweep.searched())
