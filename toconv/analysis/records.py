"""A trial, a finalist or a baseline as tracking and the report see it, and the label by which people recognise it."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from toconv.command_line import pasteable
from toconv.evaluation.metrics import is_given
from toconv.paths import TrialPaths
from toconv.settings import CRITIC_WEIGHT, GRID_SIZE, SEED, TEST

SYMBOLS = {GRID_SIZE: "k", "loss.lambda_gp": "λ", "training.n_critic": "n", CRITIC_WEIGHT: "w", SEED: "seed"}
UNNAMED = {TEST}  # every finalist has it


class State(StrEnum):
    """How a trial stands, in the words of results.csv."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Kind(StrEnum):
    """What a row of results.csv is of."""

    TRIAL = "trial"
    FINALIST = "finalist"  # a trial of the front once more, with another seed
    EXTENDED = "extended"  # a trial for more epochs, beside it: see `extension` for where it began
    BASELINE = "baseline"


@dataclass(frozen=True)
class TrialRecord:
    """One row of results."""

    trial_id: str
    name: str
    kind: Kind
    state: State
    cell: str
    tokens: int  # how many a picture keeps, k²
    params: dict[str, Any]  # searched settings, grid axes included
    values: dict[str, float]  # final metrics; empty while it runs and where it failed
    device_seconds: float | None = None
    folder: Path | None = None  # of trials and finalists
    reason: str | None = None  # of a failure, and of a trial that somebody stopped
    steered: str = ""  # who asked for what of it while the sweep ran: `added by alice at …; stopped by …`
    violates: str = ""  # the constraints of the sweep that its values break
    skipped: bool = False  # given up by somebody, which is no failure
    finalist_of: str | None = None  # trial_id of the trial whose settings a finalist has
    extends: str | None = None  # trial_id of the trial that an extended one trains for more epochs
    extension: str = ""  # of an extended one: its epochs, and where it began
    kept: bool = False  # whether its checkpoints are there
    number: int | None = None  # Optuna's, within its study
    own: tuple[str, ...] = ()  # which of the values the user's own evaluation gave
    not_evaluated: str | None = None  # why it gave none, where it failed
    settings: Mapping[str, Any] = field(default_factory=dict)  # all that decide it, by dotted names, params included

    @property
    def label(self) -> str:
        """What people recognise it by: `k=6 λ=3.2 n=5 w=0.04`, `pool k=6`."""
        return f"{self.name} {label(self.params)}" if self.kind == Kind.BASELINE else label(self.params)

    @property
    def paths(self) -> TrialPaths:
        """Of a trial or finalist; baselines have no folder."""
        assert self.folder is not None
        return TrialPaths(self.folder)

    @property
    def gives_grid(self) -> bool:
        """Whether its tokens stand in a k×k grid, which the common decoder needs; some baselines' are a set."""
        return self.kind != Kind.BASELINE or "distortion_ridge" in self.values

    def is_given(self, name: str) -> bool:
        """Whether the metric of this name was its loss."""
        return is_given(name, {**self.settings, **self.params})

    def debug_command(self, command: str) -> str:
        """The sweep's command for this trial alone, in one process. Behind `--` stand no options."""
        from toconv.config import override_text  # start-up: Hydra

        words = shlex.split(command)
        options = words.index("--") if "--" in words else len(words)
        trial = (f"trial.{override_text(key, value)}" for key, value in self.params.items())
        return pasteable([*words[:options], "--debug", *words[options:], *trial])

    @property
    def is_complete_trial(self) -> bool:
        """Of the search: neither a finalist nor a baseline."""
        return self.kind == Kind.TRIAL and self.state == State.COMPLETE


def label(params: Mapping[str, Any]) -> str:
    """`k=6 λ=3.2 n=5 w=0.04`: symbols for what every sweep has, the end of the dotted name for other settings."""
    named = [key for key in params if key not in UNNAMED]
    return " ".join(f"{_symbol(key, named)}={short(params[key])}" for key in named)


def short(value: Any) -> str:
    """Three digits of a number."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(params: Mapping[str, Any]) -> str:
    """`lambda_gp=3.2 n_critic=5`"""
    return " ".join(f"{key.rsplit('.', 1)[-1]}={short(value)}" for key, value in params.items())


def _symbol(key: str, keys: Iterable[str]) -> str:
    """A symbol, or as many of the last parts of `key` as no other of the keys ends with."""
    if key in SYMBOLS:
        return SYMBOLS[key]
    parts = key.split(".")
    ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return next(end for end in ends if not any(f".{other}".endswith(f".{end}") for other in keys if other != key))


def finalists_of(records: Iterable[TrialRecord], *trials: str) -> list[TrialRecord]:
    """The complete finalists of trials, by their trial_ids."""
    return [r for r in records if r.finalist_of in trials and r.state == State.COMPLETE]


def baselines_at(records: Iterable[TrialRecord], tokens: int) -> dict[str, TrialRecord]:
    """{name: record} of the baselines with so many tokens."""
    return {r.name: r for r in records if r.kind == Kind.BASELINE and r.tokens == tokens}
