"""A trial before it runs, and as the ledger has it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toconv.analysis.records import State
from toconv.sweep.inbox import Act, Note, includes
from toconv.sweep.search.glance import EXTENDED, FINALISTS


@dataclass(frozen=True)
class Proposal:
    """What a trial is to try, and who it is. Before it runs, all that there is of it."""

    cell: str
    number: int  # within its study
    trial_id: str
    params: Mapping[str, Any]  # searched settings and grid axes
    finalist_of: str | None = None  # the trial_id whose settings a finalist runs with another seed
    extends: str | None = None  # the trial_id of the trial that it trains for more epochs
    from_epoch: int | None = None  # the last one of that trial, whose end it begins at; None: it begins anew

    @property
    def study(self) -> str:
        """Of the ledger."""
        return FINALISTS if self.finalist_of else EXTENDED if self.extends else self.cell

    @property
    def name(self) -> str:
        return f"{self.study}/{self.number}"

    @property
    def is_searched(self) -> bool:
        """Whether a search proposed it."""
        return not (self.finalist_of or self.extends)


@dataclass(frozen=True)
class Trial:
    """A proposal that the ledger holds, and how it stands."""

    proposal: Proposal
    state: State
    values: Mapping[str, float]  # by objective; complete trials only
    reason: str | None
    seal: Mapping[str, str] | None = None  # of complete and pruned ones, since there are seals
    steered: tuple[Note, ...] = ()  # who asked for what of it, from outside

    @property
    def ended(self) -> bool:
        return self.state is not State.RUNNING

    @property
    def skipped(self) -> bool:
        """Given up by somebody, which is no failure."""
        return includes(self.steered, Act.SKIP)

    def is_searched(self, state: State) -> bool:
        """Whether it stands so, and is of the search."""
        return self.state is state and self.proposal.is_searched
