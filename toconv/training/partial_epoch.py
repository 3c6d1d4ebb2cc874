"""Where in an epoch a training left between two steps, so that it goes on there as if it had not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from toconv.evaluation.metrics import DIAGNOSTICS

PARTIAL = "partial"  # the key of a checkpoint
Leave = Callable[[], bool]  # whether a training is to leave now


def never() -> bool:
    return False


class LeftEpoch(Exception):
    """The training was asked to leave."""


@dataclass
class PartialEpoch:
    """Of the epoch that is at work."""

    steps: int  # done
    order: torch.Tensor  # state of the generator that shuffles, as the epoch began
    total: torch.Tensor  # sum of DIAGNOSTICS up to the last step at which they were read
    pending: torch.Tensor  # since then

    @classmethod
    def begin(cls, order: torch.Generator, device: torch.device) -> PartialEpoch:
        nothing = torch.zeros(len(DIAGNOSTICS), device=device)
        return cls(0, order.get_state(), nothing, nothing.clone())

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> PartialEpoch:
        """What `state_dict` gave, back on the device."""
        return cls(state["steps"], state["order"], state["total"].to(device), state["pending"].to(device))
