"""SiLU(LayerNorm(x)) whose gradient is differentiated in one go, as WGAN-GP's penalty asks for.

Left to autograd, the second derivative of both takes seventy small operations, which cost more than the products
between."""

# U rows, W channels of a row

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


def plain_norm_silu(x: torch.Tensor, weight_W: torch.Tensor, bias_W: torch.Tensor, eps: float) -> torch.Tensor:
    """SiLU(w·(x − mean)/√(variance + eps) + b) over the last dimension."""
    return nn.functional.silu(nn.functional.layer_norm(x, weight_W.shape, weight_W, bias_W, eps))


class NormSiLU(nn.LayerNorm):
    """(…, W) → (…, W): nn.SiLU after nn.LayerNorm over the last dimension."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _NormSiLU.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias, self.eps).view_as(x)


class _NormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_UW: torch.Tensor, weight_W: torch.Tensor, bias_W: torch.Tensor, eps: float) -> torch.Tensor:
        n_UW, mean_U1, rstd_U1 = aten.native_layer_norm(x_UW, weight_W.shape, weight_W, bias_W, eps)
        ctx.save_for_backward(x_UW, weight_W, bias_W, n_UW, mean_U1, rstd_U1)
        return nn.functional.silu(n_UW)

    @staticmethod
    def backward(ctx: Any, g_UW: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *_Gradient.apply(g_UW, *ctx.saved_tensors), None


class _Gradient(torch.autograd.Function):
    """With x̂ the normalised rows, n = w·x̂ + b and h = g·silu′(n): the gradients P(w·h) of x, Σ h·x̂ of w and Σ h of b,
    where P(u) = rstd·(u − mean u − x̂·mean u·x̂) is symmetric."""

    @staticmethod
    def forward(
        ctx: Any,
        g_UW: torch.Tensor,
        x_UW: torch.Tensor,
        weight_W: torch.Tensor,
        bias_W: torch.Tensor,
        n_UW: torch.Tensor,
        mean_U1: torch.Tensor,
        rstd_U1: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        h_UW = aten.silu_backward(g_UW, n_UW)
        found = aten.native_layer_norm_backward(
            h_UW, x_UW, weight_W.shape, mean_U1, rstd_U1, weight_W, bias_W, [True] * 3
        )
        ctx.save_for_backward(g_UW, x_UW, weight_W, n_UW, mean_U1, rstd_U1, h_UW, found[0])
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, v_UW: torch.Tensor | None, of_weight_W: torch.Tensor | None, of_bias_W: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        """Of ⟨v, P(w·h)⟩ + ⟨of_weight, Σ h·x̂⟩ + ⟨of_bias, Σ h⟩, by g, x, w and b."""
        g_UW, x_UW, weight_W, n_UW, mean_U1, rstd_U1, h_UW, gradient_UW = ctx.saved_tensors
        normed_UW = (x_UW - mean_U1).mul_(rstd_U1)

        def p(u_UW: torch.Tensor) -> torch.Tensor:
            return aten.native_layer_norm_backward(
                u_UW, x_UW, weight_W.shape, mean_U1, rstd_U1, None, None, [True, False, False]
            )[0]

        v_UW = torch.zeros_like(g_UW) if v_UW is None else v_UW
        pv_UW = p(v_UW)
        by_h_UW = pv_UW * weight_W
        if of_weight_W is not None:
            by_h_UW.addcmul_(normed_UW, of_weight_W)
        if of_bias_W is not None:
            by_h_UW.add_(of_bias_W)
        by_n_UW = _second_derivative_of_silu(n_UW).mul_(by_h_UW).mul_(g_UW)
        wh_UW, along_U1 = h_UW * weight_W, torch.linalg.vecdot(v_UW, gradient_UW).unsqueeze(-1)
        v_mean_U1, wh_mean_U1 = ((u * normed_UW).mean(-1, keepdim=True) for u in (v_UW, wh_UW))
        by_normed_UW = (by_n_UW * weight_W).addcmul_(v_UW, -rstd_U1 * wh_mean_U1).addcmul_(wh_UW, -rstd_U1 * v_mean_U1)
        if of_weight_W is not None:
            by_normed_UW.addcmul_(h_UW, of_weight_W)
        by_x_UW = p(by_normed_UW).addcmul_(normed_UW, along_U1 * rstd_U1, value=-1 / x_UW.shape[-1])
        by_weight_W = pv_UW.mul_(h_UW).addcmul_(by_n_UW, normed_UW).sum(0)
        return aten.silu_backward(by_h_UW, n_UW), by_x_UW, by_weight_W, by_n_UW.sum(0), None, None, None


def _second_derivative_of_silu(n: torch.Tensor) -> torch.Tensor:
    """σ(1 − σ)(2 + n(1 − 2σ)), σ the logistic function of n."""
    sigma = n.sigmoid()
    return torch.addcmul(n.new_full((), 2.0), n, 1 - 2 * sigma).mul_(sigma).mul_(1 - sigma)
