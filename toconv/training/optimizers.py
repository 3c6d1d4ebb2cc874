"""AdamW and Adam as torch has them, but for what their first call imports.

torch wraps an optimizer's methods so that its compiler does not trace them, and the first call of any imports
`torch._dynamo` for it: more than a second before a worker's first step, whether anything is compiled or not. These call
the same methods without the wrapper. `hardware.compile` compiles the two networks, never an optimizer."""

from inspect import unwrap

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
