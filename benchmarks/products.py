"""The matrix products that some work does, counted while it runs, and the same products alone; what it has the host
read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SMALLEST = 1e-3  # of all operations: products with less are not repeated alone
READ = "aten::_local_scalar_dense"  # what .item() and .tolist() of one number come to
aten = torch.ops.aten


class Product(NamedTuple):
    """`many` products of (m, k) by (k, n) matrices in one call."""

    m: int
    k: int
    n: int
    dtype: torch.dtype = torch.float32
    many: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.m * self.k * self.n * self.many


class Products(TorchDispatchMode):
    """Counts the matrix products that run, backward passes included; a convolution counts as the product that
    unfolding it would give."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket
        if name in (aten.mm, aten.addmm):
            a, b = args[-2:]
            self.found[Product(*a.shape, b.shape[1], a.dtype)] += 1
        elif name is aten.bmm:
            many, m, k = args[0].shape
            self.found[Product(m, k, args[1].shape[2], args[0].dtype, many)] += 1
        elif name is aten.convolution:
            self._convolution(out, args[1], 1)
        elif name is aten.convolution_backward:
            self._convolution(args[0], args[2], sum(args[-1][:2]))
        return out

    def _convolution(self, out: torch.Tensor, weight: torch.Tensor, count: int) -> None:
        size = (out.numel() // out.shape[1], weight[0].numel(), weight.shape[0])
        self.found[Product(*size, out.dtype)] += count


class HostReads(TorchDispatchMode):
    """Counts operators, and those by which the host reads a number from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        self.operators += 1
        self.reads += func.name() == READ
        return func(*args, **(kwargs or {}))


def flops(products: Counter[Product]) -> int:
    return sum(product.flops * count for product, count in products.items())


def matmuls(products: Counter[Product], device: torch.device | None = None) -> Callable[[], None]:
    """Work that does the same products on contiguous matrices of the same sizes and types, and nothing else."""
    whole, on = flops(products), device or torch.device("cpu")
    sizes = [
        (*(_matrices(p, rows, columns, on) for rows, columns in ((p.m, p.k), (p.k, p.n), (p.m, p.n))), count)
        for p, count in products.items()
        if p.flops * count > SMALLEST * whole
    ]

    def work() -> None:
        for a, b, out, count in sizes:
            for _ in range(count):
                torch.matmul(a, b, out=out)

    return work


def _matrices(product: Product, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    many = () if product.many == 1 else (product.many,)
    return torch.randn(*many, rows, columns, dtype=product.dtype, device=device)
