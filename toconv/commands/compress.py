"""`toconv compress`: pictures → compressed tokens and a map of their errors."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toconv.command_line import parse, path_of
from toconv.config import parse_overrides
from toconv.errors import ExitCode, RequestError, disk
from toconv.own_files import MARK, MARK_KEY, inode, output_mistakes
from toconv.paths import unwritable, write_atomic
from toconv.progress import bar, console, say
from toconv.tokens.gather import gather
from toconv.tokens.images import Picture

USAGE = """
usage: toconv compress PICTURE... --checkpoint DIR [--output DIR] [key=value ...]

  PICTURE        a file, a folder (all pictures below it) or a quoted glob, such as "photos/**/*.jpg"
  --checkpoint   an export (outputs/NAME/recommended/k6, or its name on the Hub), a trial's folder (its latest.pt, the
                 epoch that results.csv reports) or a .pt file
  --output       where the results go, in the folders that the pictures are in; ./compressed by default
  key=value      a setting of the encoder or of the hardware, e.g. encoder.weights=FILE or hardware.device=cpu; or
                 data.max_pixels=N, above which a picture is not read

NAME.safetensors holds `tokens` (k*k, C), in the units of the encoder's own tokens, and `class_token` (C,) where the
encoder has one; where it has registers too, `prefix_tokens` (P, C) are all that stand beside the grid.
NAME.png shows the picture and, token by token, the share of variance that the decoder does not recover.
Both carry a mark by which the next run knows them: only such files are written over, and such maps are no pictures.
Exit codes: 0 done, 2 wrong request, 3 done but pictures that cannot be read were skipped, 4 the machinery gave way.
"""
SETTINGS = ("encoder", "hardware", "data.max_pixels")  # and groups of them, that may be given
OUTPUT = Path("compressed")  # of the working directory
SUFFIXES = (".safetensors", ".png")  # of the files of a picture


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, EncoderMismatch where the encoder is not the compressor's own."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--checkpoint", required=True, type=os.path.expanduser)
    parser.add_argument("--output", default=OUTPUT, type=path_of)
    asked, mistakes = parse(parser, arguments, USAGE)
    settings = [word for word in asked.words if _is_setting(word)]
    pictures = []
    try:
        pictures = gather([word for word in asked.words if word not in settings])
    except RequestError as error:
        mistakes = error.mistakes + mistakes
    if reason := unwritable(asked.output):
        mistakes.append(f"--output {asked.output}: cannot be written ({reason})")
    inputs = {found: picture.path for picture in pictures if (found := inode(picture.path))}
    targets = [target for picture in pictures for target in _targets(asked.output, picture)]
    mistakes += output_mistakes(targets, asked.output, inputs)
    if mistakes:
        raise RequestError(*mistakes)
    return _compress_all(pictures, asked.checkpoint, asked.output, parse_overrides(settings))


def _is_setting(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and (key in SETTINGS or key.split(".")[0] in SETTINGS) and not Path(word).exists()


def _targets(output: Path, picture: Picture) -> list[Path]:
    return [output / f"{picture.key}{suffix}" for suffix in SUFFIXES]


def _compress_all(pictures: list[Picture], checkpoint: str, output: Path, given: Mapping[str, Any]) -> ExitCode:
    import torch  # start-up
    from safetensors.torch import save

    from toconv.export.pictures import PictureCompressor, open_compressor, readable_batches
    from toconv.hardware import keep_freed_memory, limit_threads
    from toconv.report.figures import error_map

    keep_freed_memory()
    compressor, settings = open_compressor(checkpoint, given)
    limit_threads(settings.hardware)
    work, skipped, done = PictureCompressor(compressor, settings), list[str](), 0
    with torch.inference_mode(), bar("pictures") as progress:
        task = progress.add_task("compressing", total=len(pictures))
        for batch in readable_batches(pictures, settings, skipped):
            for found in work.compress(batch):
                tokens, error = _targets(output, found.picture)
                content = {"tokens": found.tokens_MC.clone(), **{name: x.clone() for name, x in found.prefix.items()}}
                with disk(f"{tokens}: not written"):
                    write_atomic(tokens, save(content, {MARK_KEY: MARK}))
                    write_atomic(error, error_map(found.pixels_3HW, found.error_gg, compressor))
                if not console.is_terminal:
                    lost = f"{100 * found.error_gg.mean().item():.1f} % of variance not recovered"
                    say(f"{found.picture.path}: {lost}; {tokens}, {error.suffix}")
            done += len(batch)
            progress.update(task, completed=done + len(skipped))
    for line in [*(f"skipped: {reason}" for reason in skipped), work.summary(done, len(skipped), output)]:
        say(line)
    return ExitCode.PICTURES_SKIPPED if skipped else ExitCode.DONE
