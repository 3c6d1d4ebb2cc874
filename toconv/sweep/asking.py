"""Ask a sweep for something from outside, and wait for what its driver answers."""

import argparse
import time
from typing import Any

from toconv.command_line import parse
from toconv.errors import ExitCode, RequestError
from toconv.paths import SweepPaths
from toconv.progress import console
from toconv.sweep.inbox import Act, Answer, Asked, Inbox, Verdict, request
from toconv.sweep.recorded import read_request, recorded_sweep
from toconv.sweep.requests import refusal
from toconv.sweep.running import at_work
from toconv.sweep.search.glance import glance, glance_at_rest
from toconv.sweep.search.ledger_place import recorded_place

ANSWER_SECONDS = 30.0  # that a driver has to answer; while it encodes it answers nothing
POLL_SECONDS = 0.1


def ask(name: str, act: Act, **about: Any) -> ExitCode:
    """Raises RequestError where it cannot be done: by what the sweep's folder says, or by what its driver answers;
    DamagedFile where the ledger of a sweep that nothing runs is gone, MachineryError where that is so in a database."""
    paths = SweepPaths.named(name)
    sweep, _ = recorded_sweep(paths)
    asked = request(act, **about)
    looks = glance if at_work(paths) else glance_at_rest
    trials = [(seen.name, seen.facts.trial_id, seen.state) for seen in looks(recorded_place(paths), name)]
    if mistake := refusal(asked, sweep, trials):
        raise RequestError(mistake)
    inbox = Inbox(paths)
    inbox.post(asked)
    answer = _answer(paths, inbox, asked)
    if answer and answer.verdict is Verdict.REFUSED:
        raise RequestError(answer.says)
    console.print(f"{asked.what}: {answer.verdict}; {answer.says}" if answer else _unanswered(paths, asked))
    return ExitCode.DONE


def _answer(paths: SweepPaths, inbox: Inbox, asked: Asked) -> Answer | None:
    """None where nothing runs the sweep, and after ANSWER_SECONDS."""
    end = time.monotonic() + ANSWER_SECONDS
    while (answer := inbox.answer(asked.id)) is None and time.monotonic() < end and at_work(paths):
        time.sleep(POLL_SECONDS)
    return answer or inbox.answer(asked.id)  # of a driver that ended with it


def _unanswered(paths: SweepPaths, asked: Asked) -> str:
    kept = f"it stands in {paths.steering / asked.id}.json; remove that file to take it back"
    if at_work(paths):
        return f"{asked.what}: no answer within {ANSWER_SECONDS:.0f} s; it is done once trials run: {kept}"
    command = read_request(paths)["command"]
    return f"{asked.what}: nothing runs this sweep now; its next start does it ({command}): {kept}"


def name_and_trial(arguments: list[str], usage: str) -> tuple[str, str]:
    """Of `NAME --trial ID`."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("name")
    parser.add_argument("--trial")
    asked, mistakes = parse(parser, arguments, usage)
    if mistakes or not asked.trial:
        raise RequestError(*mistakes or [f"say which --trial\n{usage.strip()}"])
    return asked.name, asked.trial
