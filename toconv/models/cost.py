"""What a network costs: its matrix products, counted without memory or arithmetic.

torch.utils.flop_counter counts the same (a test compares), but loads torch's compiler, which takes a second."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode


class _Count(TorchFunctionMode):
    total = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}
    ) -> Any:
        out = function(*args, **kwargs)
        if function in (F.linear, F.conv2d):
            self.total += 2 * out.numel() * args[1][0].numel()
        elif function is F.scaled_dot_product_attention:
            self.total += 4 * out.numel() * args[1].shape[-2]
        return out


def forward_flops(network: Callable[[torch.Tensor], torch.Tensor], *shape: int, device: str = "meta") -> int:
    """Floating-point operations of the linear layers, convolutions and attention of one forward pass, a multiplication
    and an addition counting two, of a network on `device`. A backward pass takes twice as many."""
    with _Count() as count, torch.no_grad():
        network(torch.zeros(shape, device=device))
    return count.total


def parameters(*networks: nn.Module) -> int:
    """Numbers that are learnt."""
    return sum(p.numel() for network in networks for p in network.parameters())


def held_numbers(network: nn.Module) -> int:
    """Parameters and buffers: learnt by gradients or fitted."""
    return sum(x.numel() for x in (*network.parameters(), *network.buffers()))


def compressor_cost(
    compress: Callable[[torch.Tensor], torch.Tensor], numbers: int, tokens: int, channels: int, device: str = "meta"
) -> dict[str, float]:
    """`compressor_flops` for one image of (tokens, channels), of a compressor on `device`, and `compressor_parameters`,
    the numbers that it holds."""
    return {
        "compressor_flops": float(forward_flops(compress, 1, tokens, channels, device=device)),
        "compressor_parameters": float(numbers),
    }
