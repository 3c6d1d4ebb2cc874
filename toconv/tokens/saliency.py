"""The saliency decoder that the default encoder's own file holds: last-layer tokens → a map of what draws the eye."""

# B images, N = g*g tokens of the last layer, C channels

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from toconv import grid
from toconv.settings import EncoderSettings
from toconv.tokens.encoder_weights import resolve_weights


class SaliencyDecoder(nn.Module):
    """Transposed convolutions 384 → 256 → 128 → 64, each with batch norm and ReLU, a 1×1 convolution, a sigmoid; names
    as in the file."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 256, 128, 64)
        for number in (1, 2, 3):
            before, after = widths[number - 1 : number + 1]
            setattr(self, f"upconv{number}", nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
        self.final_conv = nn.Conv2d(64, 1, 1)

    def forward(self, last_BNC: torch.Tensor) -> torch.Tensor:
        """(B, 8g, 8g) in [0, 1]."""
        x = grid.to_map(last_BNC)
        for number in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"upconv{number}")(x)))
        return self.final_conv(x)[:, 0].sigmoid()


def load_saliency(encoder: EncoderSettings, device: torch.device) -> SaliencyDecoder | None:
    """None where the encoder's weights come without one."""
    weights = resolve_weights(encoder) if encoder.weights.endswith(".onnx") else None
    if not isinstance(weights, Path):
        return None
    from toconv.tokens.onnx_weights import read_saliency_state  # optional: onnx

    state = read_saliency_state(weights)
    if state is None:
        return None
    decoder = SaliencyDecoder(encoder.width)
    decoder.load_state_dict(state, strict=False)  # PyTorch counts batches too, ONNX does not
    return decoder.to(device).eval().requires_grad_(False)
