"""`toconv compress`: pictures → compressed tokens and a map of their errors."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toconv.command_line import parse, path_of
from toconv.config import parse_overrides
from toconv.errors import ExitCode, RequestError, disk
from toconv.paths import unwritable, write_atomic
from toconv.progress import bar, console
from toconv.tokens.gather import gather
from toconv.tokens.images import Picture

USAGE = """
usage: toconv compress PICTURE... --checkpoint DIR [--output DIR] [key=value ...]

  PICTURE        a file, a folder (all pictures below it) or a quoted glob, such as "photos/**/*.jpg"
  --checkpoint   an export (outputs/NAME/recommended/k6, or its name on the Hub), a trial's folder (its latest.pt, the
                 epoch that results.csv reports) or a .pt file
  --output       where the results go, in the folders that the pictures are in; the current folder by default
  key=value      a setting of the encoder or of the hardware, e.g. encoder.weights=FILE or hardware.device=cpu

NAME.safetensors holds `tokens` (k*k, C), in the units of the encoder's own tokens, and `class_token` (C,).
NAME.png shows the picture and, token by token, the share of variance that the decoder does not recover.
Exit codes: 0 done, 2 wrong request, 3 done but pictures that cannot be read were skipped, 4 the machinery gave way.
"""
GROUPS = ("encoder", "hardware")  # whose settings may be given


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, EncoderMismatch where the encoder is not the compressor's own."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--checkpoint", required=True, type=os.path.expanduser)
    parser.add_argument("--output", default=Path(), type=path_of)
    asked, mistakes = parse(parser, arguments, USAGE)
    settings = [word for word in asked.words if word.partition("=")[1] and word.split("=")[0].split(".")[0] in GROUPS]
    pictures = []
    try:
        pictures = gather([word for word in asked.words if word not in settings])
    except RequestError as error:
        mistakes = error.mistakes + mistakes
    if reason := unwritable(asked.output):
        mistakes.append(f"--output {asked.output}: cannot be written ({reason})")
    if mistakes:
        raise RequestError(*mistakes)
    return _compress_all(pictures, asked.checkpoint, asked.output, parse_overrides(settings))


def _compress_all(pictures: list[Picture], checkpoint: str, output: Path, given: Mapping[str, Any]) -> ExitCode:
    import torch  # start-up
    from safetensors.torch import save

    from toconv.export.pictures import PictureCompressor, open_compressor, readable_batches
    from toconv.hardware import keep_freed_memory
    from toconv.report.figures import error_map

    keep_freed_memory()
    compressor, settings = open_compressor(checkpoint, given)
    work, skipped, done = PictureCompressor(compressor, settings), list[str](), 0
    with torch.inference_mode(), bar("pictures") as progress:
        task = progress.add_task("compressing", total=len(pictures))
        for batch in readable_batches(pictures, settings, skipped):
            for found in work.compress(batch):
                target = output / found.picture.key
                content = {"tokens": found.tokens_MC.clone(), "class_token": found.class_C.clone()}
                with disk(f"{target}: not written"):
                    write_atomic(Path(f"{target}.safetensors"), save(content))
                    write_atomic(Path(f"{target}.png"), error_map(found.pixels_3HW, found.error_gg, compressor))
                if not console.is_terminal:
                    lost = f"{100 * found.error_gg.mean().item():.1f} % of variance not recovered"
                    console.print(f"{found.picture.path}: {lost}; {target}.safetensors, .png")
            done += len(batch)
            progress.update(task, completed=done + len(skipped))
    for line in [*(f"skipped: {reason}" for reason in skipped), work.summary(done, len(skipped), output)]:
        console.print(line)
    return ExitCode.PICTURES_SKIPPED if skipped else ExitCode.DONE
