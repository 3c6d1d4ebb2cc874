"""Ridge regression in its dual form, its penalty chosen by leaving out one training picture at a time."""

# I training images, P pictures, K images of each, M tokens, C channels, F = M*C features, E targets

from __future__ import annotations

from dataclasses import dataclass

import torch

PENALTIES = torch.logspace(-4, 2, 13, dtype=torch.float64)  # of the kernel's mean eigenvalue, among which is chosen
CHUNK = 2**16  # features at a time; changes no number but by rounding


@dataclass(frozen=True)
class KernelRidge:
    """y = mean + (f − mean f)·Σᵢ αᵢ (fᵢ − mean f): as many unknowns as images, whatever the number of features."""

    features_IF: torch.Tensor
    alpha_IE: torch.Tensor
    mean_E: torch.Tensor
    penalty: float  # of PENALTIES

    @classmethod
    def fit(cls, features_IF: torch.Tensor, targets_IE: torch.Tensor, crops: int) -> KernelRidge:
        """`crops` images of one picture stand one after the other, and are left out together. What such a fit says of
        the images B that it did not see follows from the fit to all: y − ŷ_without = (1 − H_BB)⁻¹ (y − ŷ), H the matrix
        that takes y to ŷ."""
        mean_E = targets_IE.double().mean(0)
        y_IE = targets_IE.double() - mean_E
        values_I, vectors_II = torch.linalg.eigh(_centred_kernel(features_IF, features_IF, features_IF))
        values_I = values_I.clamp_min(0)
        scale = values_I.mean().clamp_min(1e-12)
        along_IE = vectors_II.T @ y_IE
        left = [_left(values_I, scale * penalty, vectors_II, y_IE, crops) for penalty in PENALTIES.tolist()]
        penalty = float(PENALTIES[int(torch.stack(left).argmin())])
        alpha_IE = vectors_II @ (along_IE / (values_I + scale * penalty)[:, None])
        return cls(features_IF, alpha_IE, mean_E, penalty)

    def predict(self, features_BF: torch.Tensor) -> torch.Tensor:
        """(B, E)."""
        kernel_BI = _centred_kernel(features_BF, self.features_IF, self.features_IF)
        return (kernel_BI @ self.alpha_IE + self.mean_E).float()


def _left(
    values_I: torch.Tensor, penalty: torch.Tensor, vectors_II: torch.Tensor, y_IE: torch.Tensor, crops: int
) -> torch.Tensor:
    """Squared error on the pictures left out, with this penalty."""
    shrunk_I = values_I / (values_I + penalty)
    error_IE = y_IE - (vectors_II * shrunk_I) @ (vectors_II.T @ y_IE)
    of_picture_PKI = vectors_II.unflatten(0, (-1, crops))
    hat_PKK = (of_picture_PKI * shrunk_I) @ of_picture_PKI.transpose(1, 2) + 1 / len(y_IE)  # the constant's share
    rest_PKK = torch.eye(crops, dtype=hat_PKK.dtype, device=hat_PKK.device) - hat_PKK
    return torch.linalg.solve(rest_PKK, error_IE.unflatten(0, (-1, crops))).square().sum()


def _centred_kernel(a_BF: torch.Tensor, b_IF: torch.Tensor, about_IF: torch.Tensor) -> torch.Tensor:
    """(B, I) fp64 products of features, less the mean of `about_IF`."""
    kernel_BI = torch.zeros(len(a_BF), len(b_IF), dtype=torch.float64, device=a_BF.device)
    for a_Bf, b_If, about_If in zip(*(x.split(CHUNK, 1) for x in (a_BF, b_IF, about_IF)), strict=True):
        mean_f = about_If.float().mean(0)
        kernel_BI += (a_Bf.float() - mean_f) @ (b_If.float() - mean_f).T
    return kernel_BI
