"""The hand-written gradient against autograd's own of the plain formula."""

import pytest
import torch

from toconv import grid
from toconv.models.kernels import reconstruction as kernel


@pytest.mark.parametrize("cached", [1, 2**30])
def test_the_reconstructions_gradient_is_that_of_the_two_losses_written_out(cached, monkeypatch):
    monkeypatch.setattr(kernel, "CACHED", cached)  # an image at a time, or all at once
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, 36, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    y[1, 4] = 0  # a token whose cosine is not defined
    coverage = grid.coverage(6, 4).double()
    gradients = []
    for reconstruct in (kernel.reconstruction, kernel.plain_reconstruction):
        y = y.detach().requires_grad_(True)
        mse, cosine = reconstruct(x, y, coverage)
        (0.3 * mse + 0.7 * cosine).backward()
        gradients.append(y.grad)
    known = torch.arange(36).expand(3, 36) != torch.tensor([[-1], [4], [-1]])
    torch.testing.assert_close(gradients[0][known], gradients[1][known])
    assert torch.isfinite(gradients[0]).all() and gradients[0].abs().sum() > 0
