"""Whose files a training's folder holds: the work of one training is never mixed with another's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from toconv import checkpoint, config
from toconv.errors import CheckpointError, DamagedFile, RequestError
from toconv.lock import alone
from toconv.paths import TrialPaths
from toconv.settings import EPOCHS, Settings
from toconv.state_files import read_yaml
from toconv.training.epochs import TRAINED
from toconv.training.identity import deciding

ELSEWHERE = "choose another folder: experiment.checkpoint_dir="
SHOWN = 3  # of the settings that differ


@contextmanager
def only_training(paths: TrialPaths) -> Iterator[None]:
    """Keep a second training out of the folder, which is made. Raises RequestError while another one is at work there,
    and where it is no folder."""
    if paths.folder.exists() and not paths.folder.is_dir():
        raise RequestError(f"{paths.folder}: must be a folder; {ELSEWHERE}")
    with alone(paths.lock, f"{paths.folder}: another process trains in this folder; {ELSEWHERE}"):
        yield


def check_folder(paths: TrialPaths, settings: Settings, resume: Path | None, fingerprint: str | None = None) -> None:
    """Raises RequestError where a training with these settings, begun or resumed, would overwrite what is not its own:
    another training, a later state of the resumed one, or files that no training wrote. `fingerprint` is its tokens',
    once it is known."""
    held = _checkpoints(paths)
    if not held:
        _check_rest(paths)
    reached = _glance(resume)["epoch"] if resume else 0
    inside = resume is not None and resume.resolve().parent == paths.folder.resolve()
    for path in held:
        try:
            state = _glance(path)
        except CheckpointError as error:
            if inside:
                continue  # damaged; another one of this folder is resumed
            raise RequestError(f"{error}. It may be somebody's work; {ELSEWHERE}") from None
        differing = differences(state, settings)
        if resume and state["epoch"] <= reached:
            differing.pop(EPOCHS, None)
        if fingerprint not in (None, state["store"]["fingerprint"]):
            differing["tokens"] = (state["store"]["fingerprint"], fingerprint)
        if differing:
            shown = [f"{key}: {there} there, {here} here" for key, (there, here) in differing.items()]
            raise RequestError(
                f"{path}: is of another training, which reached epoch {state['epoch']} ({'; '.join(shown[:SHOWN])}); "
                f"{ELSEWHERE}, or go on with it: resume={path}"
            )


def differences(state: Mapping[str, Any], settings: Settings) -> dict[str, tuple[Any, Any]]:
    """{setting: (a checkpoint's, ours)} of those that decide a training's numbers and are not the same."""
    try:
        theirs = config.flat(deciding(config.of_checkpoint(state["settings"])))
    except ValidationError:
        return {"settings": ("of another version of toconv", "of this one")}
    ours = config.flat(deciding(settings))
    return {key: (theirs.get(key), ours.get(key)) for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)}


def _glance(path: Path) -> dict[str, Any]:
    """What is asked of a training's checkpoint here. Raises CheckpointError."""
    state = checkpoint.glance(path, (*TRAINED, "epoch"))
    if not isinstance(state["epoch"], int) or "fingerprint" not in state["store"]:
        raise CheckpointError(f"{path}: is no checkpoint of a training")
    return state


def _checkpoints(paths: TrialPaths) -> list[Path]:
    """One name of each file."""
    by_file = {(path.stat().st_dev, path.stat().st_ino): path for path in reversed(paths.checkpoints())}
    return list(by_file.values())


def _check_rest(paths: TrialPaths) -> None:
    """Without a checkpoint there may be what a training left that was stopped in its first epoch, and nothing else of
    the names that a training writes."""
    if paths.metrics.exists() and not (paths.metrics.is_file() and paths.metrics.stat().st_size == 0):
        raise RequestError(f"{paths.metrics}: holds epochs whose checkpoints are gone; {ELSEWHERE}")
    if paths.machine.exists() and not paths.config.exists():
        raise RequestError(f"{paths.machine}: no training wrote it; {ELSEWHERE}")
    if paths.config.exists():
        try:
            read_yaml(paths.config, TypeAdapter(Settings))
        except DamagedFile:
            raise RequestError(f"{paths.config}: no training wrote it; {ELSEWHERE}") from None
