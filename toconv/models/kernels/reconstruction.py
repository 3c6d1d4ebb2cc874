"""The reconstruction loss in one pass over the tokens forward and one backward."""

# B batch, N tokens of the original grid, C channels

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

SMALLEST = 1e-16  # squared product of two tokens' lengths, below which their cosine counts as 0
CACHED = 8 * 2**20  # bytes of a batch that a CPU's cache holds beside two more of its size


def reconstruction(
    x_BNC: torch.Tensor, y_BNC: torch.Tensor, coverage_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `plain_reconstruction`; x gets no gradient. Both terms and their gradients come from the same three dot
    products of each token."""
    return _Reconstruction.apply(x_BNC, y_BNC, coverage_N)


def plain_reconstruction(
    x_BNC: torch.Tensor, y_BNC: torch.Tensor, coverage_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error and 1 − cosine of each token, weighted by `coverage_N`, averaged over images."""
    mse_BN = (x_BNC - y_BNC).square().mean(-1)
    cosine_BN = 1 - F.cosine_similarity(x_BNC, y_BNC, dim=-1)
    return (mse_BN @ coverage_N).mean(), (cosine_BN @ coverage_N).mean()


class _Reconstruction(torch.autograd.Function):
    """One pass over x and y forward and one backward, some images at a time, so that what is in between stays in a
    CPU's cache; left to autograd, the same takes ten passes."""

    @staticmethod
    def forward(
        ctx: Any, x_BNC: torch.Tensor, y_BNC: torch.Tensor, coverage_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(x_BNC, y_BNC, coverage_N)
        several = images_in_cache(x_BNC)
        products = [
            (
                torch.linalg.vector_norm(x, dim=-1).square(),
                (x * y).sum(-1),
                torch.linalg.vector_norm(y, dim=-1).square(),
            )
            for x, y in zip(x_BNC.split(several), y_BNC.split(several), strict=True)
        ]
        ctx.products = xx_BN, xy_BN, yy_BN = [torch.cat(parts) for parts in zip(*products, strict=True)]
        mse_BN = (xx_BN - 2 * xy_BN + yy_BN) / x_BNC.shape[-1]
        cosine_BN = 1 - xy_BN * (xx_BN * yy_BN).clamp_min(SMALLEST).rsqrt()
        return (mse_BN @ coverage_N).mean(), (cosine_BN @ coverage_N).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mse: torch.Tensor, cosine: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        """∂MSE/∂y = 2(y − x)/C and ∂(1 − cosine)/∂y = (y·xy/yy − x)/(‖x‖‖y‖) of each token, weighted and summed."""
        x_BNC, y_BNC, coverage_N = ctx.saved_tensors
        xx_BN, xy_BN, yy_BN = ctx.products
        weight_N, length_BN = coverage_N / len(x_BNC), (xx_BN * yy_BN).clamp_min(SMALLEST).rsqrt()
        along_y_BN = torch.where(xx_BN * yy_BN > SMALLEST, xy_BN * length_BN / yy_BN, 0)
        of_x_BN1 = (-weight_N * (2 / x_BNC.shape[-1] * mse + length_BN * cosine)).unsqueeze(-1)
        of_y_BN1 = (weight_N * (2 / x_BNC.shape[-1] * mse + along_y_BN * cosine)).unsqueeze(-1)
        gradient_BNC, several = torch.empty_like(y_BNC), images_in_cache(x_BNC)
        for x, y, a, b, out in zip(
            *(t.split(several) for t in (x_BNC, y_BNC, of_x_BN1, of_y_BN1, gradient_BNC)), strict=True
        ):
            torch.mul(x, a, out=out).addcmul_(y, b)
        return None, gradient_BNC, None


def images_in_cache(x_BNC: torch.Tensor) -> int:
    """How many images are worked on at a time: as many as CACHED bytes hold, and on a GPU all."""
    return len(x_BNC) if x_BNC.is_cuda else max(1, CACHED // x_BNC[0].nbytes)
