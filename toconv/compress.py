"""`python -m toconv.compress IMAGE… --checkpoint DIR`: pictures → compressed tokens and a map of their fidelity."""

# B images, N = g*g original tokens, M = k*k compressed tokens, C channels

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from toconv.command_line import run, same_command
from toconv.errors import CheckpointError, ExitCode, MachineryError, RequestError

if TYPE_CHECKING:
    import torch

USAGE = """
usage: python -m toconv.compress IMAGE... --checkpoint DIR [--output DIR]

  --checkpoint   a trial's folder (its latest.pt, the epoch that results.csv reports) or a .pt file
  --output       where NAME.safetensors and NAME.png go; the current folder by default

NAME.safetensors holds `tokens` (k*k, C), in the units of the encoder's own tokens, and `class_token` (C,).
NAME.png shows the picture and, token by token, the share of variance that the decoder does not recover.
"""


class TrainedCompressor:
    """A checkpoint's compressor and decoder, on tokens in the encoder's own units."""

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        """Raises CheckpointError where the file is missing, damaged or of another version."""
        from toconv.checkpoint import load
        from toconv.models.compressor import Compressor
        from toconv.models.decoder import build_decoder
        from toconv.settings import Settings

        state = load(checkpoint)
        self.settings = Settings.model_validate(state["settings"])
        model, tokens = self.settings.model, state["tokens"]
        self.grid_size, self.k = tokens["grid_size"], model.compressor.output_grid_size
        self._mean_C, self._std_C = (tokens[key].to(device) for key in ("mean_C", "std_C"))
        channels = len(self._mean_C)
        self.compressor = Compressor(channels, self.grid_size, model.compressor)
        self.decoder = build_decoder(model.decoder, channels, self.grid_size, self.k, model.compressor.init)
        try:
            for name in ("compressor", "decoder"):
                network = getattr(self, name)
                network.load_state_dict(state[name])
                network.to(device).eval().requires_grad_(False)
        except RuntimeError as error:
            raise CheckpointError(f"{checkpoint}: does not fit this version's networks: "
                                  f"{str(error).splitlines()[0]}") from error

    def compress(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        """(B, N, C) tokens of the encoder → (B, M, C)."""
        return self.compressor((tokens_BNC - self._mean_C) / self._std_C) * self._std_C + self._mean_C

    def decompress(self, tokens_BMC: torch.Tensor) -> torch.Tensor:
        """(B, M, C) compressed tokens → (B, N, C)."""
        return self.decoder((tokens_BMC - self._mean_C) / self._std_C) * self._std_C + self._mean_C

    def unrecovered(self, tokens_BNC: torch.Tensor) -> torch.Tensor:
        """(B, g, g) error of each token after compression and back, over the tokens' mean variance."""
        error_BNC = (tokens_BNC - self.decompress(self.compress(tokens_BNC))) / self._std_C
        variance = ((tokens_BNC - self._mean_C) / self._std_C).square().mean()
        return (error_BNC.square().mean(-1) / variance).unflatten(1, (self.grid_size, self.grid_size))


def compress(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, DataError on a picture that cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--output", default=Path(), type=Path)
    try:
        asked, unknown = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        raise RequestError(f"not understood: {' '.join(arguments)}\n{USAGE.strip()}") from None
    missing = [f"{path}: no such picture" for path in asked.pictures if not path.is_file()]
    names = [path.stem for path in asked.pictures]
    twice = [f"{name}: two pictures of this name would be written over each other"
             for name in sorted({n for n in names if names.count(n) > 1})]
    if missing or unknown or twice:
        raise RequestError(*missing, *twice, *(f"{word}: no such option" for word in unknown))
    return _compress_all(asked.pictures, asked.checkpoint, asked.output)


def _compress_all(pictures: list[Path], checkpoint: Path, output: Path) -> ExitCode:
    import torch
    from safetensors.torch import save

    from toconv.hardware import resolve_device
    from toconv.paths import TrialPaths, write_atomic
    from toconv.progress import bar, console
    from toconv.tokens.encoder import load_encoder
    from toconv.tokens.images import Picture, crops

    device = torch.device("cpu")
    trained = TrainedCompressor(TrialPaths(checkpoint).latest if checkpoint.is_dir() else checkpoint, device)
    settings = trained.settings
    device = resolve_device(settings.hardware)
    encoder = load_encoder(settings.encoder, device)
    centre = settings.data.model_copy(update={"crops": 1})
    with torch.inference_mode(), bar("pictures") as progress:
        for path in progress.track(pictures, description="compressing"):
            pixels_13HW = crops(Picture(path.name, path), centre, settings.encoder)
            tokens_1NC, class_1C = (t.float().cpu() for t in encoder(pixels_13HW.to(device)))
            compressed_MC = trained.compress(tokens_1NC)[0]
            unrecovered_gg = trained.unrecovered(tokens_1NC)[0]
            try:
                write_atomic(output / f"{path.stem}.safetensors",
                             save({"tokens": compressed_MC.contiguous(), "class_token": class_1C[0].clone()}))
                write_atomic(output / f"{path.stem}.png", heat_map(pixels_13HW[0], unrecovered_gg, trained))
            except OSError as error:
                raise MachineryError(f"{output}: not written ({error.strerror})") from error
            console.print(f"{path}: {trained.grid_size**2} -> {trained.k**2} tokens by {settings.encoder.name}, "
                          f"{100 * unrecovered_gg.mean():.1f} % of variance not recovered; "
                          f"{output / path.stem}.safetensors, .png")
    return ExitCode.DONE


def heat_map(pixels_3HW: torch.Tensor, unrecovered_gg: torch.Tensor, trained: TrainedCompressor) -> bytes:
    """A PNG: the picture as the encoder sees it, and beside it the error of each token on top of it."""
    import io

    import torch
    from matplotlib.figure import Figure

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (trained.settings.encoder.mean, trained.settings.encoder.std))
    picture = (pixels_3HW * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
    size = len(picture)
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(picture)
    left.set_title(f"picture, {trained.grid_size}×{trained.grid_size} tokens", fontsize=10)
    right.imshow(picture.mean(-1), cmap="gray", extent=(0, size, size, 0))
    drawn = right.imshow(unrecovered_gg.numpy(), cmap="magma", alpha=0.65, vmin=0, extent=(0, size, size, 0))
    right.set_title(f"not recovered from {trained.k}×{trained.k} tokens, "
                    f"mean {100 * unrecovered_gg.mean():.1f} %", fontsize=10)
    figure.colorbar(drawn, ax=right, label="squared error over mean variance", shrink=0.9)
    for axes in (left, right):
        axes.set_axis_off()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(run(compress, USAGE, same_command))
