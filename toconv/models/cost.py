"""What a network costs: its matrix products, counted without memory or arithmetic.

torch.utils.flop_counter counts the same (a test compares), but loads torch's compiler, which takes a second."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

MATRIX_PRODUCTS = (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)


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
        elif function in MATRIX_PRODUCTS:
            self.total += 2 * out.numel() * args[0].shape[-1]
        return out


def forward_flops(network: Callable[[torch.Tensor], torch.Tensor], *shape: int, device: str = "meta") -> int:
    """As `flops_of`, of tokens of this shape and a network on `device`. A backward pass takes twice as many."""
    return flops_of(network, torch.zeros(shape, device=device))


def flops_of(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> int:
    """Floating-point operations of the linear layers, convolutions, matrix products and attention of one forward pass,
    a multiplication and an addition counting two."""
    with _Count() as count, torch.no_grad():
        network(x)
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
