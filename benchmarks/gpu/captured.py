"""A training step as one CUDA graph: critic steps, their penalty's double backward and the generator's step.

As PyTorch's notes on CUDA graphs have it: warm-up on a side stream, tensors that stay where they are, optimizers that
may be captured, and the training's own generator registered, so that each replay draws afresh. The learning rate is a
tensor that the schedule fills between two replays."""

# B batch, N tokens of the grid, C channels

from __future__ import annotations

import torch
from torch.optim import Optimizer

from toconv.training.loop import Training

WARM_UP = 3  # steps, which are taken back


class _Held:
    """In the place of a schedule while steps are captured: a replay would write the same learning rate each time."""

    def step(self) -> None: ...


class CapturedStep:
    """`Training.step` of a training that has not begun, for batches of the same size. Without CUDA the same step with
    the same preparation, launched as usual."""

    def __init__(self, training: Training, x_BNC: torch.Tensor, images_B: torch.Tensor) -> None:
        self._training, self._schedule = training, training.schedule
        self._x_BNC, self._images_B = x_BNC.clone(), images_B
        prepare(training)
        training.schedule = _Held()  # type: ignore[assignment]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._out = torch.empty(0)
        self._warm_up_and_capture()
        training.schedule = self._schedule

    def _warm_up_and_capture(self) -> None:
        training, start = self._training, Start(self._training)
        if training.device.type != "cuda":
            self._run(WARM_UP)
            start.again()
            return
        side = torch.cuda.Stream(training.device)
        side.wait_stream(torch.cuda.current_stream(training.device))
        with torch.cuda.stream(side):
            self._run(WARM_UP)
            start.again()
        torch.cuda.current_stream(training.device).wait_stream(side)
        for optimizer in (training.optimizer, training.critic_optimizer):
            optimizer.zero_grad(set_to_none=True)  # gradients are then the graph's own
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(training.draws)
        with torch.cuda.graph(self._graph, stream=side):
            self._out = training.step(self._x_BNC, self._images_B)

    def _run(self, steps: int) -> None:
        for _ in range(steps):
            self._training.step(self._x_BNC, self._images_B)

    def __call__(self, x_BNC: torch.Tensor | None = None) -> torch.Tensor:
        """DIAGNOSTICS of a step on these tokens, or on those of the last call; the next call overwrites them."""
        if x_BNC is not None:
            self._x_BNC.copy_(x_BNC)
        if self._graph is None:
            self._training.schedule = _Held()  # type: ignore[assignment]
            self._out = self._training.step(self._x_BNC, self._images_B)
            self._training.schedule = self._schedule
        else:
            self._graph.replay()
        self._schedule.step()
        return self._out


def prepare(training: Training) -> None:
    """Optimizers that may be captured, with learning rates as tensors."""
    for optimizer in (training.optimizer, training.critic_optimizer):
        for group in optimizer.param_groups:
            group["capturable"] = training.device.type == "cuda"
            group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=training.device)


class Start:
    """Where a training that has not begun stands. Optimizers get their state in their first step, which a graph must
    not capture, so it is kept and set to zero."""

    def __init__(self, training: Training) -> None:
        self._training = training
        networks = (training.compressor, training.decoder, training.critic)
        self._parameters = [(p, p.detach().clone()) for network in networks for p in network.parameters()]
        self._draws = training.draws.get_state()

    @torch.no_grad()
    def again(self) -> None:
        for parameter, value in self._parameters:
            parameter.copy_(value)
        for optimizer in (self._training.optimizer, self._training.critic_optimizer):
            for value in _state_of(optimizer):
                value.zero_()
        self._training.draws.set_state(self._draws)


def _state_of(optimizer: Optimizer) -> list[torch.Tensor]:
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
