"""`toconv export`: a trial's checkpoint → a compressor that others can use."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

from toconv.analysis.pareto import recommended
from toconv.analysis.records import Kind, TrialRecord
from toconv.command_line import parse, path_of
from toconv.errors import CheckpointError, ExitCode, RequestError
from toconv.paths import SweepPaths, unwritable
from toconv.progress import console

if TYPE_CHECKING:
    from toconv.export.module import TokenCompressor

USAGE = """
usage: toconv export NAME (--k K | --trial TRIAL) --to DIR [--onnx] [--torch-export]

  NAME            a sweep, outputs/NAME
  --k             the recommended trial of k*k tokens: the complete one of the lowest validation distortion
  --trial         another one instead: its trial_id or its name in results.csv
  --to            the folder to write: config.json, model.safetensors and README.md, the model card
  --onnx          model.onnx too; needs onnxscript and onnxruntime
  --torch-export  model.pt2 too, for torch.export.load

Both graphs compress any number of images, and are kept only where they agree with the module to 1e-4.
In Python: compressor = toconv.load("DIR")
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, CheckpointError where the trial's checkpoint is gone."""
    asked = _parse(arguments)
    from toconv.export.recommended import export_trial  # start-up: torch
    from toconv.sweep.session import recorded_driver

    _check_target(asked.to)
    extras = _extras(asked)
    driver = recorded_driver(SweepPaths.named(asked.name))
    records = driver.records()
    trial = _chosen(records, asked.k, asked.trial)
    compressor = export_trial(driver, trial, records, asked.to, extras)
    console.print(
        f"{asked.to}: {compressor.grid_size**2} -> {compressor.k**2} tokens of {compressor.encoder.name}, "
        f"trial {trial.name} ({trial.trial_id}, {trial.state}); "
        f"{', '.join(sorted(path.name for path in asked.to.iterdir()))}"
    )
    return ExitCode.DONE


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("name")
    parser.add_argument("--k", type=int)
    parser.add_argument("--trial")
    parser.add_argument("--to", required=True, type=path_of)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--torch-export", action="store_true")
    asked, mistakes = parse(parser, arguments, USAGE)
    if asked.k is None and asked.trial is None:
        mistakes.append("give --k K, or --trial TRIAL")
    if mistakes:
        raise RequestError(*mistakes)
    return asked


def _check_target(target: Path) -> None:
    """An earlier export may be replaced, and nothing else: a folder with its config.json and files of an export's."""
    from toconv.export.module import read_config  # start-up: torch
    from toconv.export.recommended import check_replaceable

    around = next(path for path in (target.absolute(), *target.absolute().parents) if path.exists())
    if not around.is_dir():
        raise RequestError(f"--to {target}: {around} is a file; name a folder")
    if reason := unwritable(target.absolute().parent):
        raise RequestError(f"--to {target}: cannot be written ({reason})")
    if target.is_dir() and any(target.iterdir()):
        try:
            read_config(target / "config.json")
        except CheckpointError as error:
            raise RequestError(
                f"--to {target}: holds something else than an earlier export ({error}); name another folder"
            ) from error
        check_replaceable(target)


def _extras(asked: argparse.Namespace) -> dict[str, Callable[[TokenCompressor, Path], object]]:
    """What writes the graphs that are asked for, by the names of their files."""
    if not (asked.onnx or asked.torch_export):
        return {}
    from toconv.export import graphs  # start-up: torch

    if asked.onnx:
        graphs.check_onnx_installed()
    wanted = {graphs.ONNX_FILE: (asked.onnx, graphs.write_onnx)}
    wanted[graphs.EXPORT_FILE] = asked.torch_export, graphs.write_torch_export
    return {name: write for name, (is_wanted, write) in wanted.items() if is_wanted}


def _chosen(records: Sequence[TrialRecord], k: int | None, trial: str | None) -> TrialRecord:
    if trial is None and k is not None:
        best = recommended(records)
        if k * k not in best:
            there = ", ".join(str(isqrt(tokens)) for tokens in best) or "none at all"
            raise RequestError(
                f"--k {k}: no trial with {k}x{k} tokens is complete; complete are those with k = {there}"
            )
        return best[k * k]
    trials = [r for r in records if r.kind != Kind.BASELINE]
    found = next((r for r in trials if trial in (r.trial_id, r.name)), None)
    if found is None:
        kept = ", ".join(f"{r.trial_id} ({r.name})" for r in trials if r.kept) or "none"
        raise RequestError(f"--trial {trial}: no such trial; those whose checkpoint is there: {kept}")
    if k is not None and k * k != found.tokens:
        raise RequestError(f"--trial {trial}: has {isqrt(found.tokens)}x{isqrt(found.tokens)} tokens, --k says {k}")
    return found
