"""`python -m toconv.export NAME --k 6 --to DIR`: a trial's checkpoint → a compressor that others can use."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import cache
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toconv import __version__
from toconv.command_line import run, same_command
from toconv.errors import CheckpointError, ExitCode, RequestError
from toconv.paths import SweepPaths, TrialPaths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toconv.module import EncoderFacts, TokenCompressor
    from toconv.settings import EncoderSettings, Settings
    from toconv.sweep.records import TrialRecord

USAGE = """
usage: python -m toconv.export NAME (--k K | --trial TRIAL) --to DIR [--onnx] [--torch-export]

  NAME            a sweep, outputs/NAME
  --k             the recommended trial of k*k tokens: the complete one of the lowest validation distortion
  --trial         another one instead: its trial_id or its name in results.csv
  --to            the folder to write: config.json, model.safetensors and README.md, the model card
  --onnx          model.onnx too; needs requirements-extras.txt
  --torch-export  model.pt2 too, for torch.export.load

Both graphs compress any number of images, and are kept only where they agree with the module to 1e-4.
In Python: compressor = toconv.load("DIR")
"""
SHARED = ("name", "layer", "image_size", "patch_size", "width", "mean", "std")  # of settings and facts


@cache
def encoder_facts(settings: EncoderSettings) -> EncoderFacts:
    """What the encoder of these settings is. Raises EncoderError where its weights are missing."""
    from toconv.module import EncoderFacts
    from toconv.tokens.encoder import architecture_identity, count_blocks, weights_identity

    return EncoderFacts(
        architecture=architecture_identity(settings), weights=weights_identity(settings),
        blocks=count_blocks(settings), **{name: getattr(settings, name) for name in SHARED})


def from_checkpoint(path: Path) -> tuple[TokenCompressor, Settings]:
    """The compressor of a training's checkpoint, in eval mode, and the training's settings. `path` is a .pt file or
    the folder of a trial, whose latest.pt is the epoch that results.csv reports.

    Raises CheckpointError where the file is missing, damaged or of another version, EncoderError where the encoder's
    weights are missing.
    """
    from toconv.checkpoint import load
    from toconv.settings import Settings

    file = TrialPaths(path).latest if path.is_dir() else path
    state = load(file)
    settings = Settings.model_validate(state["settings"])
    return build(state, settings, file), settings


def build(
    state: Mapping[str, Any], settings: Settings, path: Path, about: Mapping[str, Any] | None = None
) -> TokenCompressor:
    """The compressor of a checkpoint's content; `about` are further entries of its config."""
    from toconv.module import FORMAT, TokenCompressor

    model = settings.model
    compressor = TokenCompressor({
        "library": "toconv", "format": FORMAT, "toconv": __version__, "k": model.compressor.output_grid_size,
        "encoder": asdict(encoder_facts(settings.encoder)),
        "compressor": model.compressor.model_dump(mode="json", exclude={"output_grid_size"}),
        "decoder": model.decoder.model_dump(mode="json"), "fingerprint": state["tokens"]["fingerprint"],
        **(about or {})})
    try:
        for name in ("compressor", "decoder"):
            getattr(compressor, name).load_state_dict(state[name])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: does not fit this version's networks: "
                              f"{str(error).splitlines()[0]}") from error
    for name in ("mean_C", "std_C"):
        getattr(compressor, name).copy_(state["tokens"][name])
    return compressor.eval()


def export(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, CheckpointError where the trial's checkpoint is gone."""
    asked = _parse(arguments)
    _check_target(asked.to)
    paths = SweepPaths(Path("outputs").resolve() / asked.name)
    if not paths.request.exists():
        others = sorted(path.parent.name for path in paths.root.parent.glob("*/sweep.yaml"))
        raise RequestError(f"{paths.root}: holds no sweep; " + (
            f"there are {', '.join(others)}" if others else f"{paths.root.parent} holds none at all"))
    from toconv.progress import console
    from toconv.sweep import winners
    from toconv.sweep.sync import recorded_driver

    extras = _extras(asked)
    driver = recorded_driver(paths)
    records = driver.records()
    trial = _chosen(records, asked.k, asked.trial)
    compressor = winners.export(driver, trial, records, asked.to, extras)
    console.print(f"{asked.to}: {compressor.grid_size**2} -> {compressor.k**2} tokens of {compressor.encoder.name}, "
                  f"trial {trial.name} ({trial.trial_id}, {trial.state}); "
                  f"{', '.join(sorted(path.name for path in asked.to.iterdir()))}")
    return ExitCode.DONE


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("name")
    parser.add_argument("--k", type=int)
    parser.add_argument("--trial")
    parser.add_argument("--to", required=True, type=Path)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--torch-export", action="store_true")
    try:
        asked, unknown = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, SystemExit):
        raise RequestError(f"not understood: {' '.join(arguments)}\n{USAGE.strip()}") from None
    mistakes = [f"{word}: no such option" for word in unknown]
    if asked.k is None and asked.trial is None:
        mistakes.append("give --k K, or --trial TRIAL")
    if mistakes:
        raise RequestError(*mistakes)
    return asked


def _check_target(target: Path) -> None:
    """An earlier export may be replaced, and nothing else."""
    if target.exists() and not target.is_dir():
        raise RequestError(f"--to {target}: is a file; name a folder")
    if target.is_dir() and any(target.iterdir()):
        from toconv.module import read_config

        try:
            read_config(target / "config.json")
        except CheckpointError as error:
            raise RequestError(f"--to {target}: holds something else than an earlier export ({error}); "
                               "name another folder") from error


def _extras(asked: argparse.Namespace) -> list[Any]:
    """What writes the graphs that are asked for."""
    if not (asked.onnx or asked.torch_export):
        return []
    from toconv import portable

    if asked.onnx:
        portable.check_onnx_installed()
    graphs = ((asked.onnx, portable.write_onnx, portable.ONNX_FILE),
              (asked.torch_export, portable.write_torch_export, portable.EXPORT_FILE))
    return [lambda compressor, folder, write=write, name=name: write(compressor, folder / name)
            for wanted, write, name in graphs if wanted]


def _chosen(records: Sequence[TrialRecord], k: int | None, trial: str | None) -> TrialRecord:
    from toconv.sweep.report import recommended

    if trial is None:
        best = recommended(records)
        if k * k not in best:
            there = ", ".join(str(isqrt(tokens)) for tokens in best) or "none at all"
            raise RequestError(f"--k {k}: no trial with {k}x{k} tokens is complete; complete are those with k = {there}")
        return best[k * k]
    trials = [r for r in records if r.kind != "baseline"]
    found = next((r for r in trials if trial in (r.trial_id, r.name)), None)
    if found is None:
        kept = ", ".join(f"{r.trial_id} ({r.name})" for r in trials if r.kept) or "none"
        raise RequestError(f"--trial {trial}: no such trial; those whose checkpoint is there: {kept}")
    if k is not None and k * k != found.tokens:
        raise RequestError(f"--trial {trial}: has {isqrt(found.tokens)}x{isqrt(found.tokens)} tokens, --k says {k}")
    return found


if __name__ == "__main__":
    sys.exit(run(export, USAGE, same_command))
