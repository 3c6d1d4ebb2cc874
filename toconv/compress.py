"""`python -m toconv.compress PICTURE… --checkpoint DIR`: pictures → compressed tokens and a map of their fidelity."""

# B images, N = g*g original tokens, M = k*k compressed tokens, C channels, H W pixels

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toconv.command_line import run, same_command
from toconv.errors import DataError, ExitCode, MachineryError, RequestError

if TYPE_CHECKING:
    import torch

    from toconv.module import TokenCompressor
    from toconv.settings import Settings
    from toconv.tokens.images import Picture

USAGE = """
usage: python -m toconv.compress PICTURE... --checkpoint DIR [--output DIR] [key=value ...]

  PICTURE        a file, a folder (all pictures below it) or a quoted glob, such as "photos/**/*.jpg"
  --checkpoint   an export (outputs/NAME/front/k6, or its name on the Hub), a trial's folder (its latest.pt, the
                 epoch that results.csv reports) or a .pt file
  --output       where the results go, in the folders that the pictures are in; the current folder by default
  key=value      a setting of the encoder or of the hardware, e.g. encoder.weights=FILE or hardware.device=cpu

NAME.safetensors holds `tokens` (k*k, C), in the units of the encoder's own tokens, and `class_token` (C,).
NAME.png shows the picture and, token by token, the share of variance that the decoder does not recover.
Exit codes: 0 done, 2 wrong request, 3 done but pictures that cannot be read were skipped, 4 the machinery gave way.
"""
GROUPS = ("encoder", "hardware")  # whose settings may be given


def compress(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, EncoderMismatch where the encoder is not the compressor's own."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--output", default=Path(), type=Path)
    try:
        asked, unknown = parser.parse_known_intermixed_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        raise RequestError(f"not understood: {' '.join(arguments)}\n{USAGE.strip()}") from None
    settings = [word for word in asked.words if word.partition("=")[1] and word.split("=")[0].split(".")[0] in GROUPS]
    mistakes = [f"{word}: no such option" for word in unknown]
    pictures = []
    try:
        pictures = _gathered([word for word in asked.words if word not in settings])
    except RequestError as error:
        mistakes = error.mistakes + mistakes
    if mistakes:
        raise RequestError(*mistakes)
    return _compress_all(pictures, asked.checkpoint, asked.output, settings)


def _gathered(words: list[str]) -> list[Picture]:
    from toconv.tokens.gather import gather

    if not words:
        raise RequestError("name a picture, a folder or a quoted glob")
    return gather(words)


def open_compressor(name: str, texts: list[str]) -> tuple[TokenCompressor, Settings]:
    """The compressor of an export or a checkpoint, and settings that choose its encoder, with `texts` laid over them.

    Raises CheckpointError where there is none, EncoderMismatch where those settings choose another encoder.
    """
    from toconv import config, load
    from toconv.export import encoder_facts, from_checkpoint

    path, given = Path(name), config.parse_overrides(texts)
    if (path / "config.json").is_file() or not (path.exists() or path.suffix == ".pt"):
        compressor = load(name)
        settings = config.compose(_encoder_of(compressor, given), given)
    else:
        compressor, settings = from_checkpoint(path)
        if given:
            settings = config.compose(config.flat(settings.model_dump(mode="json")), given)
    compressor.check_encoder(**asdict(encoder_facts(settings.encoder)))
    return compressor, settings


def _encoder_of(compressor: TokenCompressor, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of an export's encoder: those of its name in conf/encoder, or what the export itself says.

    Raises RequestError where neither says which weights to take.
    """
    from toconv import config
    from toconv.export import SHARED

    facts, k = compressor.encoder, {"model.compressor.output_grid_size": compressor.k}
    if facts.name in config.groups()["encoder"] or "encoder" in given:
        return {"encoder": facts.name, **k}
    known = {f"encoder.{name}": getattr(facts, name) for name in SHARED}
    known |= {f"encoder.{name}": list(getattr(facts, name)) for name in ("mean", "std")}
    if not facts.architecture.startswith("{"):
        known["encoder.architecture"] = facts.architecture
    if facts.weights.startswith("open_clip:"):
        known["encoder.weights"] = facts.weights.rsplit(":", 1)[1]
    missing = [key for key in ("encoder.architecture", "encoder.weights") if key not in {**known, **given}]
    if missing:
        raise RequestError(f"{facts.name}: conf/encoder has no encoder of that name; say which it is: "
                           f"{' '.join(f'{key}=FILE' for key in missing)} (weights {facts.weights})")
    return {**known, "encoder.sha256": None, **k}


def _compress_all(pictures: list[Picture], checkpoint: str, output: Path, texts: list[str]) -> ExitCode:
    import torch

    from toconv.hardware import keep_freed_memory, resolve_device
    from toconv.progress import bar, console
    from toconv.tokens.encoder import load_encoder

    keep_freed_memory()
    compressor, settings = open_compressor(checkpoint, texts)
    device = resolve_device(settings.hardware)
    work = _Work(compressor.to(device), load_encoder(settings.encoder, device), device)
    skipped, done = [], 0
    with torch.inference_mode(), bar("pictures") as progress:
        task = progress.add_task("compressing", total=len(pictures))
        for batch in _batches(pictures, settings, skipped):
            for picture, unrecovered in work.write(batch, output):
                if not console.is_terminal:
                    console.print(f"{picture.path}: {100 * unrecovered:.1f} % of variance not recovered; "
                                  f"{output / picture.key}.safetensors, .png")
            done += len(batch)
            progress.update(task, completed=done + len(skipped))
    for line in [*(f"skipped: {reason}" for reason in skipped), work.summary(done, len(skipped), output)]:
        console.print(line)
    return ExitCode.PICTURES_SKIPPED if skipped else ExitCode.DONE


def _batches(
    pictures: list[Picture], settings: Settings, skipped: list[str]
) -> Iterator[list[tuple[Picture, torch.Tensor]]]:
    """Centre crops (3, H, W) as the encoder wants them, the next batch decoded by threads meanwhile; why a picture
    cannot be read is entered in `skipped`."""
    from toconv.tokens.images import crops

    centre, size = settings.data.model_copy(update={"crops": 1}), settings.encoder.batch_size
    with ThreadPoolExecutor(centre.workers) as pool:
        def begin(start: int) -> list[tuple[Picture, Future[torch.Tensor]]]:
            return [(picture, pool.submit(crops, picture, centre, settings.encoder))
                    for picture in pictures[start:start + size]]

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


class _Work:
    """Encoder and compressor at work, with what they took and what they lost."""

    def __init__(self, compressor: TokenCompressor, encoder: torch.nn.Module, device: torch.device) -> None:
        from toconv.metrics import Distortion

        self._compressor, self._encoder, self._device = compressor, encoder, device
        self._seconds, self._lost = {"encoder": 0.0, "compressor": 0.0}, Distortion()

    def write(self, batch: list[tuple[Picture, torch.Tensor]], output: Path) -> Iterator[tuple[Picture, float]]:
        """Compress a batch and write its files; yields each picture with its share of variance that is lost."""
        import torch
        from safetensors.torch import save

        from toconv.paths import write_atomic

        pixels_B3HW = torch.stack([pixels for _, pixels in batch])
        x_BNC, class_BC = self._timed("encoder", self._encoder, pixels_B3HW.to(self._device))
        x_BNC, class_BC = x_BNC.float(), class_BC.float().cpu()
        z_BMC = self._timed("compressor", self._compressor, x_BNC)
        y_BNC = self._compressor.decompress(z_BMC)
        self._lost.add(self._compressor.standardised(x_BNC), self._compressor.standardised(y_BNC))
        maps_Bgg = self._compressor.unrecovered(x_BNC, y_BNC).cpu()
        for (picture, pixels_3HW), z_MC, class_C, map_gg in zip(batch, z_BMC.cpu(), class_BC, maps_Bgg, strict=True):
            try:
                write_atomic(output / f"{picture.key}.safetensors",
                             save({"tokens": z_MC.clone(), "class_token": class_C.clone()}))
                write_atomic(output / f"{picture.key}.png", heat_map(pixels_3HW, map_gg, self._compressor))
            except OSError as error:
                raise MachineryError(f"{output / picture.key}: not written ({error.strerror})") from error
            yield picture, map_gg.mean().item()

    def _timed(self, name: str, network: torch.nn.Module, x: torch.Tensor) -> Any:
        import torch

        start = time.perf_counter()
        found = network(x)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._seconds[name] += time.perf_counter() - start
        return found

    def summary(self, pictures: int, skipped: int, output: Path) -> str:
        from toconv.hardware import describe

        c = self._compressor
        text = f"{pictures} picture(s) compressed, {skipped} skipped"
        if not pictures:
            return text
        lost, cosine = self._lost.results().tolist()
        rates = ", ".join(f"{name} {pictures / seconds:.3g} pictures/s" for name, seconds in self._seconds.items())
        return (f"{text}: {c.grid_size**2} -> {c.k**2} tokens by {c.encoder.name}, ratio {c.grid_size**2 / c.k**2:.3g}; "
                f"mean cosine {cosine:.4f} (centred), {100 * lost:.1f} % of variance not recovered; {rates} on "
                f"{describe(self._device)}; {output}")


def heat_map(pixels_3HW: torch.Tensor, unrecovered_gg: torch.Tensor, compressor: TokenCompressor) -> bytes:
    """A PNG: the picture as the encoder sees it, and beside it the error of each token on top of it."""
    import io

    import torch
    from matplotlib.figure import Figure

    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (compressor.encoder.mean, compressor.encoder.std))
    picture = (pixels_3HW * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
    size = len(picture)
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(picture)
    left.set_title(f"picture, {compressor.grid_size}×{compressor.grid_size} tokens", fontsize=10)
    right.imshow(picture.mean(-1), cmap="gray", extent=(0, size, size, 0))
    drawn = right.imshow(unrecovered_gg.numpy(), cmap="magma", alpha=0.65, vmin=0, extent=(0, size, size, 0))
    right.set_title(f"not recovered from {compressor.k}×{compressor.k} tokens, "
                    f"mean {100 * unrecovered_gg.mean():.1f} %", fontsize=10)
    figure.colorbar(drawn, ax=right, label="squared error over mean variance", shrink=0.9)
    for axes in (left, right):
        axes.set_axis_off()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


if __name__ == "__main__":
    sys.exit(run(compress, USAGE, same_command))
