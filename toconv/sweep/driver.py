"""What the driver knows of a sweep: its trials, their results, and who is to be told. Knows no Ray."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from toconv import __version__
from toconv.durable import read_rows
from toconv.errors import RequestError
from toconv.identity import code_version, deciding, trial_id
from toconv.paths import SweepPaths, TrialPaths, write_atomic
from toconv.sweep.budget import Spent
from toconv.sweep.delivery import BackgroundTracker
from toconv.sweep.folders import copy_trial, drop_checkpoints, finish, finished
from toconv.sweep.front import costs, nondominated
from toconv.sweep.origin import settings_of_tokens, settings_of_training
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import write_results
from toconv.sweep.search import Entry, Ledger, Proposal, State
from toconv.sweep.spec import Sweep
from toconv.sweep.trainable import TrialRequest

STATE_NAMES = {State.RUNNING: "running", State.COMPLETE: "complete", State.PRUNED: "pruned", State.FAILED: "failed"}


def definition(sweep: Sweep, fingerprint: str) -> dict[str, Any]:
    """What makes this sweep this sweep. Trials, budget and resources may change between two starts."""
    file = sweep.file.model_dump(mode="json")
    return {"settings": deciding(sweep.base), "tokens": fingerprint, "code": code_version(),
            **{key: file[key] for key in ("grid", "search", "objectives", "sampler", "start_with",
                                      "early_stopping")}}


def record_request(sweep: Sweep, paths: SweepPaths, fingerprint: str, facts: Mapping[str, Any]) -> None:
    """Write sweep.yaml. Raises RequestError where the folder holds a sweep that is defined otherwise."""
    wanted = definition(sweep, fingerprint)
    if paths.request.exists():
        found = yaml.safe_load(paths.request.read_text())["definition"]
        changed = [f"{key}: was {was!r}, now {now!r}" for key, was, now in _differences(found, wanted)]
        if changed:
            raise RequestError(f"{paths.root}: holds a sweep that is defined otherwise; ask for what it was, or "
                               "choose another name=. " + "; ".join(changed))
    content = {"question": sweep.question, "toconv": __version__, **facts, "definition": wanted,
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
    if Path(settings["encoder"]["weights"]).is_file():  # a worker has a working directory of its own
        settings["encoder"]["weights"] = str(Path(settings["encoder"]["weights"]).resolve())
    threads = max(1, math.floor(sweep.file.resources.cpu))
    return TrialRequest(settings, str(tokens), str(folder.folder), threads)


class Driver:
    """Hands out proposals, takes results, keeps ledger, tracking and results.csv in step."""

    def __init__(self, sweep: Sweep, paths: SweepPaths, tokens: Path, fingerprint: str) -> None:
        self.sweep, self.paths, self.tokens = sweep, paths, tokens
        self._fingerprint, self._identities = fingerprint, {}
        self._settings = settings_of_training(sweep.base)  # a trial's parameters come on top
        self.ledger = Ledger(sweep, paths.study, self.identify)
        self._adopted = self.ledger.open_proposals()
        self.adopted = len(self._adopted)
        self.taken_over = 0  # trials whose results were there before they were asked for
        self.open: dict[str, Proposal] = {}  # by trial_id, handed out and not ended
        self.rows = self._last_rows()  # the latest row of each trial that ran
        self.spent = Spent(paths.spent, sweep.file.resources.gpu)
        self.baselines: list[TrialRecord] = []
        self.tracker: BackgroundTracker | None = None

    def _last_rows(self) -> dict[str, dict[str, Any]]:
        rows = {e.proposal.trial_id: read_rows(self.paths.trial(e.proposal.trial_id).metrics)
                for e in self.ledger.entries()}
        return {trial: found[-1] for trial, found in rows.items() if found}

    def identify(self, params: Mapping[str, Any]) -> str:
        """The trial_id of these parameters."""
        key = json.dumps(dict(params), sort_keys=True)
        if key not in self._identities:
            self._identities[key] = trial_id(self.sweep.settings(params), self._fingerprint)
        return self._identities[key]

    def planned(self) -> int:
        """Trials and finalists of the whole sweep, as far as they are known."""
        finalists = {e.proposal.trial_id for e in self.ledger.entries() if e.proposal.finalist_of}
        return self.sweep.planned_trials() + len(finalists) + len(self._finalists_to_come())

    def left(self) -> int:
        """How many trials and finalists have not ended, as far as they are known."""
        return sum(self.ledger.missing(cell.name) for cell in self.sweep.cells()) + len(self._finalists_to_come()) \
            + len(self._adopted) + len(self.open)

    def next_proposal(self) -> Proposal | None:
        """A trial to run: unfinished ones first, finalists last. None where nothing is left to begin now."""
        while True:
            if self._adopted:
                proposal = self._adopted.pop(0)
            else:
                proposal = self.ledger.propose(Counter(p.cell for p in self.open.values())) or self._finalist()
            if proposal is None or not self._take_over(proposal):
                break
        if proposal is not None:
            self.open[proposal.trial_id] = proposal
            self.spent.began(proposal.trial_id)
        return proposal

    def _take_over(self, proposal: Proposal) -> bool:
        """Enter the results of a trial that was finished already, here or in another sweep beside this one."""
        own = self.paths.trial(proposal.trial_id)
        if not finished(own):
            others = (TrialPaths(path) for path in self.paths.root.parent.glob(f"*/trials/{proposal.trial_id}"))
            found = next((paths for paths in others if finished(paths)), None)
            if found is None:
                return False
            copy_trial(found, own)
        self.rows[proposal.trial_id] = read_rows(own.metrics)[-1]
        self.taken_over += 1
        self.completed(proposal)
        return True

    def _finalist(self) -> Proposal | None:
        return next((proposal for of, changes in self._finalists_to_come()
                     if (proposal := self.ledger.propose_finalist(of, changes))), None)

    def _finalists_to_come(self) -> list[tuple[Proposal, dict[str, Any]]]:
        """The front once more with fresh seeds, once every search is at its end."""
        asked, entries = self.sweep.file.finalists, self.ledger.entries()
        searching = any(e.state is State.RUNNING and not e.proposal.finalist_of for e in entries) or any(
            self.ledger.missing(cell.name) for cell in self.sweep.cells())
        if asked is None or searching:
            return []
        best, there = self.front(entries), {e.proposal.trial_id for e in entries}
        seed = self.sweep.base.training.seed
        pairs = [(e.proposal, {"training.seed": seed + i, "training.test": True})
                 for e in entries if e.proposal.trial_id in best for i in range(1, asked.seeds + 1)]
        return [(of, changes) for of, changes in pairs if self.identify({**of.params, **changes}) not in there]

    def front(self, entries: Sequence[Entry]) -> set[str]:
        """The trial_ids of the search's front."""
        return nondominated({
            e.proposal.trial_id: costs(self.sweep.tokens(e.proposal.params), e.values, self.sweep.file.objectives)
            for e in entries if e.state is State.COMPLETE and not e.proposal.finalist_of})

    def request(self, proposal: Proposal) -> TrialRequest:
        return make_request(self.sweep, proposal.params, self.tokens, self.paths.trial(proposal.trial_id))

    def progressed(self, proposal: Proposal, row: dict[str, Any]) -> None:
        self.rows[proposal.trial_id] = row
        self.spent.save()
        self._track(self.ledger.entry(proposal))

    def completed(self, proposal: Proposal) -> None:
        metrics = self.rows[proposal.trial_id]["metrics"]
        finish(self.paths.trial(proposal.trial_id))
        self.ledger.complete(proposal, {**metrics, "tokens": self.sweep.tokens(proposal.params)})
        self._ended(proposal)

    def pruned(self, proposal: Proposal) -> None:
        self.ledger.prune(proposal, self.rows[proposal.trial_id]["epoch"])
        self._ended(proposal)

    def failed(self, proposal: Proposal, reason: str, infeasible: bool = False) -> None:
        self.ledger.fail(proposal, reason, infeasible)
        self._ended(proposal)

    def released(self, proposal: Proposal) -> None:
        """Stopped without a verdict: the trial stays open in the ledger and goes on at the next start."""
        self.open.pop(proposal.trial_id, None)
        self.spent.ended(proposal.trial_id)

    def budget_spent(self) -> str | None:
        """Which budget is spent, if one is."""
        return self.spent.over(self.sweep.file.budget)

    def _ended(self, proposal: Proposal) -> None:
        self.released(proposal)
        entries = self.ledger.entries()
        dropped = self._drop_checkpoints(entries)
        for entry in entries:
            if entry.proposal.trial_id in {proposal.trial_id, *dropped}:
                self._track(entry)

    def _drop_checkpoints(self, entries: Sequence[Entry]) -> set[str]:
        """Checkpoints stay for the front and for whatever runs. Returns whose went."""
        best = self.front(entries)
        gone = set()
        for entry in entries:
            if entry.state is not State.RUNNING and entry.proposal.trial_id not in best:
                if drop_checkpoints(self.paths.trial(entry.proposal.trial_id)):
                    gone.add(entry.proposal.trial_id)
        return gone

    def _track(self, entry: Entry) -> None:
        if self.tracker:
            self.tracker.submit(self.record(entry))

    def record(self, entry: Entry) -> TrialRecord:
        """One trial as tracking and the report see it; its final values are its last epoch's."""
        proposal, paths = entry.proposal, self.paths.trial(entry.proposal.trial_id)
        rows = read_rows(paths.metrics)
        ended = entry.state in {State.COMPLETE, State.PRUNED} and rows
        return TrialRecord(
            trial_id=proposal.trial_id, name=proposal.name, kind="finalist" if proposal.finalist_of else "trial",
            state=STATE_NAMES[entry.state], cell=proposal.cell, tokens=self.sweep.tokens(proposal.params),
            params=dict(proposal.params), values=dict(rows[-1]["metrics"]) if ended else {},
            device_seconds=rows[-1]["seconds"] if rows else None, folder=paths.folder, reason=entry.reason,
            finalist_of=proposal.finalist_of, kept=paths.latest.exists(), number=proposal.number,
            settings={**self._settings, **proposal.params})

    def records(self) -> list[TrialRecord]:
        """Every trial, then every finalist, then every baseline."""
        shared = settings_of_tokens(self.sweep.base)
        return [self.record(entry) for entry in self.ledger.entries()] + [
            replace(record, settings={**shared, **record.params}) for record in self.baselines]

    def write_results(self, run_ids: Mapping[str, str]) -> None:
        write_results(self.paths.results, self.records(), run_ids, self.sweep.searched())
