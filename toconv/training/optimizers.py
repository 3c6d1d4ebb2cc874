"""AdamW and Adam as torch has them, but for what their first call imports.

torch wraps an optimizer's methods so that its compiler does not trace them, and the first call of any imports
`torch._dynamo` for it: more than a second before a worker's first step, whether anything is compiled or not. These call
the same methods without the wrapper. `hardware.compile` compiles the two networks, never an optimizer.

On CUDA a learning rate is a tensor there, which a schedule fills and a captured step reads. It is one whether steps are
captured or not, since its float32 rounds."""

from inspect import unwrap
from typing import Any

import torch


class _NotCompiled(torch.optim.Optimizer):
    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class Adam(_NotCompiled, torch.optim.Adam):
    """torch.optim.Adam."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class AdamW(_NotCompiled, torch.optim.AdamW):
    """torch.optim.AdamW."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


def rates_on_gpu(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Learning rates as tensors on a CUDA device, and steps that a CUDA graph may hold; nothing elsewhere."""
    if device.type != "cuda":
        return
    for group in optimizer.param_groups:
        group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float32, device=device)


def portable_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`state_dict` as a training on any device reads it."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"]), "capturable": False} for group in state["param_groups"]]
    return {**state, "param_groups": groups}
