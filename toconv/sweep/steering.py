"""What is asked of a sweep while it runs, done by its driver: once, answered, entered in the ledger with time and user.

Whatever a killed driver had not answered, or not done yet, is in the inbox for the next one."""

from __future__ import annotations

import time
from collections.abc import Callable

from toconv.analysis.records import State
from toconv.errors import RequestError
from toconv.progress import console
from toconv.sweep.driver import Driver
from toconv.sweep.extending import extensions
from toconv.sweep.inbox import Act, Asked, Inbox, Note, Verdict
from toconv.sweep.proposals import Trial
from toconv.sweep.requests import cell_of, refusal

LOOK_SECONDS = 1.0
BEGINNING = {Act.ADD, Act.RETRY, Act.EXTEND}  # of a trial
Answered = tuple[Verdict, str]


class Steering:
    """Call `poll` as often as you like."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._closing = False  # no trial begins any more
        self.most_slots: int | None = None  # trials for which the cluster has room side by side, once there is one
        self._inbox, self._looked = Inbox(driver.paths), float("-inf")
        self._slots: Note | None = None  # whose number of slots is in force
        self._memory_slots: int | None = None  # trials for which there was memory, once it ran out
        self._taken: dict[str, Asked] = {}  # by id: answered, and to be answered once more when it is done
        self._acts: dict[Act, Callable[[Asked], Answered]] = {
            Act.ADD: self._add,
            Act.STOP: self._end,
            Act.SKIP: self._end,
            Act.RETRY: self._retry,
            Act.FINISH: self._finish,
            Act.PAUSE: self._pause,
            Act.RESUME: self._resume,
            Act.SLOTS: self._set_slots,
            Act.EXTEND: self._extend,
        }

    def poll(self, now: bool = False) -> None:
        """Do what was asked since the last look. Raises MachineryError where the ledger cannot be written."""
        if now or time.monotonic() - self._looked > LOOK_SECONDS:
            for asked in self._inbox.open():
                if asked.id not in self._taken and self._can_be_done(asked):
                    self._answer(asked, self._done(asked))
            self._settle()
            self._looked = time.monotonic()

    def _can_be_done(self, asked: Asked) -> bool:
        """What cannot yet, or no more, stays in the inbox."""
        if asked.act is Act.SLOTS:
            return bool(self.most_slots)
        return not (self._closing and asked.act in BEGINNING)

    def has_room(self, slots: int) -> None:
        """So many trials fit into the cluster as it is now; they run unless somebody asked for another number."""
        self.most_slots = slots
        if self._slots is None:
            self._driver.slots = min(slots, self._memory_slots or slots)

    def has_memory(self, slots: int) -> None:
        """For so many trials alone, whatever somebody asked for before."""
        self._driver.slots = self._memory_slots = slots

    def close(self) -> None:
        """The sweep is at its end: what was in force is no longer. A trial that is asked for is the next start's."""
        self._closing = True
        self.poll(now=True)
        for asked in [*self._taken.values()]:
            self._answer(asked, (Verdict.DONE, "was in force until the sweep was done"))

    def _done(self, asked: Asked) -> Answered:
        trials, sweep = self._driver.ledger.trials(), self._driver.sweep
        if again := _already(trials, asked):
            return Verdict.DONE, again
        if mistake := refusal(asked, sweep, [(t.proposal.name, t.proposal.trial_id, t.state) for t in trials]):
            return Verdict.REFUSED, mistake
        try:
            return self._acts[asked.act](asked)
        except RequestError as error:
            return Verdict.REFUSED, str(error)

    def _answer(self, asked: Asked, answered: Answered) -> None:
        verdict, says = answered
        if asked.id not in self._taken or verdict is not Verdict.DONE:
            console.print(f"asked {asked.by}: {asked.what}; {verdict}: {says}")
        if verdict is Verdict.TAKEN:
            self._taken[asked.id] = asked
        else:
            self._taken.pop(asked.id, None)
        self._inbox.reply(asked.id, verdict, says)

    def _settle(self) -> None:
        """Answer those whose trial has ended."""
        for asked in [a for a in self._taken.values() if a.act in {Act.STOP, Act.SKIP}]:
            trial = self._trial(asked)
            if not trial.ended:
                continue
            mine = any(note.id == asked.id for note in trial.steered)
            self._answer(asked, (Verdict.DONE, trial.reason or "" if mine else f"it had ended by then: {trial.state}"))

    def _trial(self, asked: Asked) -> Trial:
        names = (asked.trial,)
        return next(t for t in self._driver.ledger.trials() if t.proposal.name in names or t.proposal.trial_id in names)

    def _add(self, asked: Asked) -> Answered:
        cell, given = cell_of(self._driver.sweep, asked.params)
        proposal = self._driver.ledger.propose_asked(cell, given, asked.note)
        if proposal is None:
            return Verdict.REFUSED, f"{asked.what.removeprefix('add ')}: the sweep has every such trial already"
        self._driver.begin_next(proposal)
        return Verdict.DONE, f"{proposal.name} ({proposal.trial_id}) is the next trial to begin"

    def _end(self, asked: Asked) -> Answered:
        """Stop or skip: a trial that trains ends with its epoch, one that waits at once where it has one to keep."""
        proposal, driver = self._trial(asked).proposal, self._driver
        done = driver.latest[proposal.trial_id].epoch if proposal.trial_id in driver.latest else 0
        if other := driver.ending.get(proposal.trial_id):
            return Verdict.DONE, f"{proposal.name} was asked to end {other.by} already"
        if done >= driver.sweep.epochs(proposal.params):
            return Verdict.REFUSED, f"--trial {asked.trial}: has trained all its epochs"
        if driver.waits(proposal) and (done or asked.act is Act.SKIP):
            driver.end(proposal, asked.note)
            return Verdict.DONE, f"{proposal.name}: {asked.note.says}"
        driver.ending[proposal.trial_id] = asked.note
        return Verdict.TAKEN, f"{proposal.name} ends with epoch {done + 1}"

    def _retry(self, asked: Asked) -> Answered:
        failed = [t for t in self._driver.ledger.trials() if t.state is State.FAILED]
        chosen = [t for t in failed if asked.trial in {None, t.proposal.name, t.proposal.trial_id}]
        self._driver.begin_next(*[self._driver.ledger.run_again(trial, asked.note) for trial in chosen])
        return Verdict.DONE, f"next to begin: {', '.join(t.proposal.name for t in chosen)}"

    def _extend(self, asked: Asked) -> Answered:
        """Each enters by itself: those that a killed driver had entered are left out the next time."""
        driver, ledger = self._driver, self._driver.ledger
        found = extensions(asked, driver.sweep, driver.paths, ledger.trials(), driver.identify)
        driver.begin_next(*[ledger.propose_extended(proposal, asked.note) for proposal in found])
        mine = [t.proposal.name for t in ledger.trials() if any(note.id == asked.id for note in t.steered)]
        if not mine:
            return Verdict.REFUSED, f"{asked.what.removeprefix('extend ')}: the sweep has every such trial already"
        return Verdict.DONE, f"next to begin: {', '.join(mine)}"

    def _finish(self, asked: Asked) -> Answered:
        if self._driver.finishing:
            return Verdict.DONE, f"asked {self._driver.finishing.by} already"
        self._driver.finishing = asked.note
        return Verdict.TAKEN, "no trial is drawn any more; those that began go on, then finalists and the report"

    def _pause(self, asked: Asked) -> Answered:
        if self._driver.paused:
            return Verdict.DONE, f"asked {self._driver.paused.by} already"
        self._driver.paused = asked.note
        return Verdict.TAKEN, f"nothing begins before `toconv resume`; {len(self._driver.open)} running trial(s) go on"

    def _resume(self, asked: Asked) -> Answered:
        paused, self._driver.paused = self._driver.paused, None
        if paused is None:
            return Verdict.DONE, "it was not paused"
        self._end_force(paused, f"until resumed {asked.by}")
        return Verdict.DONE, f"it was paused {paused.by}"

    def _set_slots(self, asked: Asked) -> Answered:
        assert asked.count and self.most_slots  # refusal, poll
        if asked.count > self.most_slots:
            return (Verdict.REFUSED, f"slots={asked.count}: the cluster has room for {self.most_slots} at a time")
        if self._slots:
            self._end_force(self._slots, f"until {asked.what} {asked.by}")
        self._slots, self._driver.slots = asked.note, asked.count
        return Verdict.TAKEN, f"{asked.count} trial(s) at a time; what runs beyond goes on to its end"

    def _end_force(self, note: Note, says: str) -> None:
        if asked := self._taken.get(note.id):
            self._answer(asked, (Verdict.DONE, says))


def _already(trials: list[Trial], asked: Asked) -> str | None:
    """What a driver did that was killed before it could answer."""
    if asked.act not in {Act.ADD, Act.RETRY, Act.STOP, Act.SKIP}:
        return None
    names = [t.proposal.name for t in trials if any(note.id == asked.id for note in t.steered)]
    return f"{', '.join(names)}: {asked.note.says}" if names else None
