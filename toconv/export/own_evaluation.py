"""One evaluation of a user's own: a trial's checkpoint as an export, the command, the numbers that it wrote."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict, TypeAdapter, ValidationError

from toconv.command_group import run_group
from toconv.errors import EvaluationFailed, ToconvError, told
from toconv.export.from_checkpoint import from_checkpoint
from toconv.paths import PACKAGE, TrialPaths
from toconv.progress import console
from toconv.sweep.own_measure import Evaluated, MetricName, OwnMeasure, evaluated, keep, search_path

MOST_BYTES = 2**20  # of what a command writes
SHOWN_BYTES = 2**14  # of what it wrote, in the log where that is of no use
NUMBERS = TypeAdapter(dict[MetricName, Annotated[float, Strict(), Field(allow_inf_nan=False)]])
SCRATCH = "evaluation-"  # how the folder of an evaluation at work begins


def evaluate(paths: TrialPaths, asked: OwnMeasure, directory: Path) -> None:
    """Evaluate a trial in the working directory `directory`, and keep what came of it: numbers, or why there are none.
    Raises MachineryError where that cannot be kept."""
    start, metrics, failed = time.monotonic(), {}, None
    try:
        with _scratch(paths) as folder:
            from_checkpoint(paths.folder)[0].save_pretrained(folder / "export")
            metrics = _run(paths, asked, directory, folder)
    except (ToconvError, OSError) as error:
        failed = told(error)
    seconds = time.monotonic() - start
    keep(paths, Evaluated(key=asked.key, asked=asked.asked, metrics=metrics, failed=failed, seconds=seconds))


def try_out(paths: TrialPaths, asked: OwnMeasure) -> None:
    """Evaluate a trial here, and say what came of it. Raises EvaluationFailed."""
    console.print(f"evaluation: {asked.asked}; its output: {paths.evaluation_log}")
    evaluate(paths, asked, Path.cwd())
    found = evaluated(paths, asked)
    if found is None or found.failed:
        raise EvaluationFailed(f"evaluation: {found.failed if found else 'nothing was kept of it'}")
    console.print(", ".join(f"{name} {value:.4g}" for name, value in found.metrics.items()))


@contextmanager
def _scratch(paths: TrialPaths) -> Iterator[Path]:
    """A folder for the export and for what is written of it, gone afterwards with those of killed evaluations."""
    for left_over in paths.folder.glob(f"{SCRATCH}*/"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=paths.folder, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _run(paths: TrialPaths, asked: OwnMeasure, directory: Path, folder: Path) -> dict[str, float]:
    """Raises EvaluationFailed."""
    export, output = folder / "export", folder / "output.json"
    words = asked.words(export, output) or [sys.executable, "-m", "toconv.export.call_function", asked.asked]
    words += [] if asked.command else [str(export), str(output)]
    code = run_group(words, 60 * asked.timeout_minutes, paths.evaluation_log, directory, environment(asked))
    if code is None:
        raise EvaluationFailed(f"had not ended after {asked.timeout_minutes:g} minutes (evaluation.timeout_minutes)")
    if code:
        raise EvaluationFailed(f"ended with {_exit(code)}{_last_line(paths.evaluation_log)}")
    try:
        return _asked_for(read_numbers(output), asked)
    except EvaluationFailed:
        _keep_written(output, paths.evaluation_log)
        raise


def _asked_for(found: dict[str, float], asked: OwnMeasure) -> dict[str, float]:
    if missing := [name for name in asked.metric if name not in found]:
        there = ", ".join(found) or "nothing"
        raise EvaluationFailed(f"wrote no {', '.join(missing)}, which evaluation.metric names, but {there}")
    return found


def _keep_written(output: Path, log: Path) -> None:
    """What cannot be used may have taken hours."""
    if output.is_file():
        with output.open("rb") as written, log.open("ab") as file:
            file.write(b"\nwritten at {output}:\n" + written.read(SHOWN_BYTES) + b"\n")


def environment(asked: OwnMeasure) -> dict[str, str]:
    """Of this process; programs beside its Python come first. A function is called by that Python, with this toconv."""
    found = {**os.environ, "PATH": search_path()}
    if asked.function:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    return found


def read_numbers(output: Path) -> dict[str, float]:
    """One flat JSON object of names and finite numbers. Raises EvaluationFailed where it is none."""
    if not output.is_file():
        raise EvaluationFailed("ended well, but wrote no file at {output}")
    with output.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise EvaluationFailed(f"wrote more than {MOST_BYTES} bytes at {{output}}, where a few numbers are asked for")
    try:
        return NUMBERS.validate_json(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in wrong["loc"] if part != "[key]")
        rule = wrong["msg"].removeprefix("Value error, ")
        raise EvaluationFailed(
            "must write one JSON object of names and finite numbers at {output}: "
            + (f"{where}: {rule[:1].lower()}{rule[1:]}, is {wrong['input']!r:.100}" if where else rule)
        ) from None


def _exit(code: int) -> str:
    named = {128 + number: number.name for number in signal.Signals}
    return f"exit code {code}" + (f" ({named[code]})" if code in named else "")


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-2000:].decode(errors="replace").split("\n") if log.exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last}" if last else ", and printed nothing"
