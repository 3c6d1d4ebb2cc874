"""A training step as one CUDA graph: critic steps, their penalty's double backward and the generator's step.

As PyTorch's notes on CUDA graphs have it: warm-up on a side stream, tensors that stay where they are, optimizers that
may be captured, and the training's own generator registered, so that each replay draws afresh. The learning rate is a
tensor that the schedule fills between two replays (`optimizers.rates_on_gpu`)."""

# B batch, N tokens of the grid, C channels

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

WARM_UP = 3  # steps, which are taken back

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Moved:
    """All that a step changes."""

    networks: Sequence[nn.Module]
    optimizers: Sequence[Optimizer]
    draws: torch.Generator


class CapturedStep:
    """`step` for batches of the size of `batch` (x_BNC, images_B), and `then` what follows each. Without CUDA the same
    with the same preparation, launched as usual."""

    def __init__(
        self, step: Step, then: Callable[[], None], moved: Moved, batch: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        self._step, self._then = step, then
        self._x_BNC = batch[0].clone()
        self._images_B = batch[1].to(self._x_BNC.device, copy=True)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._out = torch.empty(0)
        start = _Start(moved)
        if self._x_BNC.device.type == "cuda":
            self._capture(moved, start)
        else:
            self._warm_up()
            start.again()

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self._step(self._x_BNC, self._images_B)

    def _capture(self, moved: Moved, start: _Start) -> None:
        device = self._x_BNC.device
        side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self._warm_up()
            start.again()
        current.wait_stream(side)
        for optimizer in moved.optimizers:
            optimizer.zero_grad(set_to_none=True)  # gradients are then the graph's own
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(moved.draws)
        with torch.cuda.graph(self._graph, stream=side):
            self._out = self._step(self._x_BNC, self._images_B)

    def __call__(self, x_BNC: torch.Tensor | None = None, images_B: torch.Tensor | None = None) -> torch.Tensor:
        """What `step` gives for these tokens of these images, or for those of the last call; the next call overwrites
        it."""
        assert (x_BNC is None) == (images_B is None)
        if x_BNC is not None and images_B is not None:
            self._x_BNC.copy_(x_BNC)
            self._images_B.copy_(images_B, non_blocking=True)
        if self._graph is None:
            self._out = self._step(self._x_BNC, self._images_B)
        else:
            self._graph.replay()
        self._then()
        return self._out


class _Start:
    """Where a training stands before the warm-up. Optimizers get their state in their first step, which a graph must
    not capture: what they did not have before is kept, and is zero."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        weights = [p for network in moved.networks for p in network.parameters()]
        self._known = [(tensor, tensor.detach().clone()) for tensor in [*weights, *_states(moved)]]
        self._draws = moved.draws.get_state()

    @torch.no_grad()
    def again(self) -> None:
        for tensor in _states(self._moved):
            tensor.zero_()
        for tensor, value in self._known:
            tensor.copy_(value)
        self._moved.draws.set_state(self._draws)


def _states(moved: Moved) -> list[torch.Tensor]:
    return [value for optimizer in moved.optimizers for state in optimizer.state.values() for value in state.values()]
