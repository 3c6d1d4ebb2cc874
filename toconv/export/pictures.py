"""Pictures through an encoder and its compressor."""

# B images, N = g*g original tokens, P prefix tokens beside them, M = k*k compressed tokens, C channels, H W pixels

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from toconv import config, load
from toconv.errors import DataError
from toconv.evaluation.distortion import Distortion
from toconv.export.from_checkpoint import encoder_facts, encoder_of, from_checkpoint
from toconv.export.module import TokenCompressor
from toconv.hardware import describe, resolve_device
from toconv.settings import Settings
from toconv.tokens.encoders import load_encoder
from toconv.tokens.images import Picture
from toconv.tokens.pixels import crops


@dataclass(frozen=True)
class CompressedPicture:
    """What became of one picture."""

    picture: Picture
    pixels_3HW: torch.Tensor  # as the encoder sees it, normalised
    tokens_MC: torch.Tensor  # in the units of the encoder's own
    prefix: dict[
        str, torch.Tensor
    ]  # class_token (C,), where the encoder has one; prefix_tokens (P, C), if there are more
    error_gg: torch.Tensor  # of each token, so that the mean is the picture's distortion


def open_compressor(name: str, given: Mapping[str, Any]) -> tuple[TokenCompressor, Settings]:
    """The compressor of an export or a checkpoint, and settings that choose its encoder, with `given` laid over them.
    Raises CheckpointError where there is none, EncoderMismatch where those settings choose another encoder."""
    path = Path(name)
    if (path / "config.json").is_file() or not (path.exists() or path.suffix == ".pt"):
        compressor = load(name)
        settings = config.compose(encoder_of(compressor, given), given)
    else:
        compressor, settings = from_checkpoint(path)
        if given:
            settings = config.compose(config.flat(settings.model_dump(mode="json")), given)
    compressor.check_encoder(**asdict(encoder_facts(settings.encoder)))
    return compressor, settings


def readable_batches(
    pictures: list[Picture], settings: Settings, skipped: list[str]
) -> Iterator[list[tuple[Picture, torch.Tensor]]]:
    """Centre crops (3, H, W) as the encoder wants them, the next batch decoded by threads meanwhile; why a picture
    cannot be read is entered in `skipped`."""
    centre, size = settings.data.model_copy(update={"crops": 1}), settings.encoder.batch_size
    with ThreadPoolExecutor(centre.workers) as pool:

        def begin(start: int) -> list[tuple[Picture, Future[torch.Tensor]]]:
            return [
                (picture, pool.submit(crops, picture, centre, settings.encoder))
                for picture in pictures[start : start + size]
            ]

        ahead = begin(0)
        for start in range(size, len(pictures) + size, size):
            waiting, ahead, readable = ahead, begin(start), []
            for picture, future in waiting:
                try:
                    readable.append((picture, future.result()[0]))
                except (DataError, OSError) as error:
                    skipped.append(str(error))
            if readable:
                yield readable


class PictureCompressor:
    """Encoder and compressor at work, with what they took and what they lost."""

    def __init__(self, compressor: TokenCompressor, settings: Settings) -> None:
        self.device = resolve_device(settings.hardware)
        self.compressor = compressor.to(self.device)
        self._encoder = load_encoder(settings.encoder, self.device)
        self._seconds, self._distortion = {"encoder": 0.0, "compressor": 0.0}, Distortion()

    def compress(self, batch: list[tuple[Picture, torch.Tensor]]) -> Iterator[CompressedPicture]:
        pixels_B3HW = torch.stack([pixels for _, pixels in batch])
        x_BNC, prefix_BPC = self._timed("encoder", self._encoder, pixels_B3HW.to(self.device))
        x_BNC, prefix_BPC = x_BNC.float(), prefix_BPC.float().cpu()
        z_BMC = self._timed("compressor", self.compressor, x_BNC)
        y_BNC = self.compressor.decompress(z_BMC)
        self._distortion.add(self.compressor.standardised(x_BNC), self.compressor.standardised(y_BNC))
        error_Bgg = self.compressor.unrecovered(x_BNC, y_BNC).cpu()
        for (picture, pixels_3HW), z_MC, prefix_PC, error_gg in zip(
            batch, z_BMC.cpu(), prefix_BPC, error_Bgg, strict=True
        ):
            yield CompressedPicture(picture, pixels_3HW, z_MC, self._named(prefix_PC), error_gg)

    def _named(self, prefix_PC: torch.Tensor) -> dict[str, torch.Tensor]:
        has_class_token = self._encoder.has_class_token
        found = {"class_token": prefix_PC[0]} if has_class_token else {}
        return {**found, "prefix_tokens": prefix_PC} if len(prefix_PC) > has_class_token else found

    def _timed(self, name: str, network: torch.nn.Module, x: torch.Tensor) -> Any:
        start = time.perf_counter()
        found = network(x)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._seconds[name] += time.perf_counter() - start
        return found

    def summary(self, pictures: int, skipped: int, output: Path) -> str:
        c, text = self.compressor, f"{pictures} picture(s) compressed, {skipped} skipped"
        if not pictures:
            return text
        distortion, cosine = self._distortion.results().tolist()
        rates = ", ".join(f"{name} {pictures / seconds:.3g} pictures/s" for name, seconds in self._seconds.items())
        return (
            f"{text}: {c.grid_size**2} -> {c.k**2} tokens by {c.encoder.name}, ratio {c.grid_size**2 / c.k**2:.3g}; "
            f"mean cosine {cosine:.4f} (centred), {100 * distortion:.1f} % of variance not recovered; {rates} on "
            f"{describe(self.device)}; {output}"
        )
