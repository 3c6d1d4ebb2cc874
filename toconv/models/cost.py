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
    def __init__(self, trained: bool) -> None:
        super().__init__()
        self.total, self._trained = 0, trained

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] = {}
    ) -> Any:
        out = function(*args, **kwargs)
        if function in (F.linear, F.conv2d):
            self._add(2 * out.numel() * args[1][0].numel(), *args[:2])
        elif function is F.scaled_dot_product_attention:
            query, key, value = args[:3]
            self._add(2 * out.numel() * key.shape[-2], query, key)
            self._add(2 * out.numel() * key.shape[-2], out, value)
        elif function in MATRIX_PRODUCTS:
            self._add(2 * out.numel() * args[0].shape[-1], *args[:2])
        return out

    def _add(self, flops: int, *factors: torch.Tensor) -> None:
        """Of a product, and of those that give the gradients of its factors."""
        self.total += flops * (1 + (sum(x.requires_grad for x in factors) if self._trained else 0))


def forward_flops(network: Callable[[torch.Tensor], torch.Tensor], *shape: int, device: str = "meta") -> int:
    """As `flops_of`, of tokens of this shape and a network on `device`."""
    return flops_of(network, torch.zeros(shape, device=device))


def flops_of(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> int:
    """Floating-point operations of the linear layers, convolutions, matrix products and attention of one forward pass,
    a multiplication and an addition counting two."""
    with _Count(trained=False) as count, torch.no_grad():
        network(x)
    return count.total


def trained_flops(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> int:
    """Those of a backward pass too, to what asks for a gradient: `x`, or what `network` learns."""
    with _Count(trained=True) as count:
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
