"""Tokens as a store holds them: fp16 or bf16, or int8 with an offset and a scale for each channel of an image."""

# I images, N tokens of an image, C channels, 2: offset and scale

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}  # store.dtype
VALUES = ".tokens."  # behind the name of a shard, then its dtype
SCALES = ".scales.fp32"  # behind the name of a shard of int8
MOST = 127  # of an int8 value; -128 is not used


class Stored(NamedTuple):
    values_INC: torch.Tensor
    scales_I2C: torch.Tensor | None = None  # fp32, of int8 alone: a token is offset + scale · value

    @property
    def dtype(self) -> str:
        return next(name for name, dtype in DTYPES.items() if dtype == self.values_INC.dtype)

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Stored:
        return Stored(change(self.values_INC), None if self.scales_I2C is None else change(self.scales_I2C))

    def raw(self) -> torch.Tensor:
        """(I, N, C) the tokens: as they are, or made of int8 in fp32."""
        if self.scales_I2C is None:
            return self.values_INC
        offset_I1C, scale_I1C = self.scales_I2C.split(1, dim=1)
        x_INC = self.values_INC.float()
        return torch.addcmul(offset_I1C, x_INC, scale_I1C, out=x_INC)


def encoded_dtype(dtype: str) -> torch.dtype:
    """What an encoder's tokens are kept in until they are written."""
    return torch.bfloat16 if dtype == "bf16" else torch.float16


def stored(tokens_INC: torch.Tensor, dtype: str) -> Stored:
    """Image by image, so that fp32 is had of one alone. A scale is the channel's range in the image over the steps of
    int8; it is not finite where a token is not."""
    if dtype != "int8":
        return Stored(tokens_INC.to(DTYPES[dtype]))
    values_INC = torch.empty(tokens_INC.shape, dtype=torch.int8)
    scales_I2C = torch.empty(len(tokens_INC), 2, tokens_INC.shape[2])
    for tokens_NC, values_NC, scales_2C in zip(tokens_INC, values_INC, scales_I2C, strict=True):
        x_NC = tokens_NC.float()
        low_C, high_C = x_NC.aminmax(dim=0)
        scales_2C.copy_(torch.stack([(low_C + high_C) / 2, (high_C - low_C) / (2 * MOST)]))
        offset_C, scale_C = scales_2C
        steps_NC = (x_NC - offset_C) / torch.where(scale_C > 0, scale_C, 1)  # of a channel that does not vary: 0
        values_NC.copy_(steps_NC.round_().clamp_(-MOST, MOST))
    return Stored(values_INC, scales_I2C)


def bytes_of_image(tokens: int, width: int, dtype: str = "fp16") -> int:
    """That a picture's tokens take, without what stands before them."""
    scales = 2 * width * torch.float32.itemsize if dtype == "int8" else 0
    return tokens * width * DTYPES[dtype].itemsize + scales
