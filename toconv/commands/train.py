"""`toconv train`: one training without a sweep: settings → tokens → epochs in ./checkpoints, recorded in MLflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toconv import config
from toconv.analysis.records import SYMBOLS, Kind, State, TrialRecord
from toconv.command_line import path_of, same_command
from toconv.errors import CheckpointError, ExitCode, MachineryError, RequestError, told
from toconv.paths import TrialPaths, unwritable
from toconv.progress import bar, console, phase, say
from toconv.redaction import redact
from toconv.setting_names import changes_a_number
from toconv.settings import EPOCHS, Settings
from toconv.signals import sigterm_asks

if TYPE_CHECKING:
    from toconv.tokens.shards import Claims, Shard
    from toconv.tracking.tracker import Tracker
    from toconv.training.loop import Training
    from toconv.training.resumable import ResumableTraining

USAGE = """
usage: python train.py [key=value ...]
       toconv train …

  key=value      a setting of conf/, e.g. model.compressor.output_grid_size=8 training.batch_size=16
  resume=PATH    go on from a checkpoint, with its settings where none are given

Leaves latest.pt, best_model.pt, checkpoint_epoch_N.pt and metrics.jsonl in ./checkpoints. A folder that holds another
training is refused: experiment.checkpoint_dir=FOLDER names another one. SIGTERM has it save at its next step, in
interrupted.pt, and the last line says how to go on there.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request, and on a folder that holds another training, before any work starts."""
    settings = settings_of(config.parse_overrides(arguments))
    from toconv.hardware import keep_freed_memory, limit_threads, set_tf32  # start-up: torch
    from toconv.tracking.tracker import check_access, say_store
    from toconv.training.folder import check_folder, only_training

    check_access(settings.experiment)
    say_store(settings.experiment)
    check_folders(settings)
    limit_threads(settings.hardware)
    set_tf32(settings.hardware)
    keep_freed_memory()
    _check_model(settings)
    paths = TrialPaths(settings.experiment.checkpoint_dir.resolve())
    with only_training(paths):
        check_folder(paths, settings, settings.resume)
        return _train(settings, paths)


def _train(settings: Settings, paths: TrialPaths) -> ExitCode:
    from toconv.hardware import describe, resolve_device  # start-up: torch
    from toconv.tokens.encoding import prepare_store
    from toconv.tokens.local_cache import LocalCache
    from toconv.tokens.store import TokenStore
    from toconv.tracking.provenance import provenance
    from toconv.tracking.tracker import trackers
    from toconv.training.folder import check_folder
    from toconv.training.loop import Training
    from toconv.training.resumable import ResumableTraining

    device = resolve_device(settings.hardware)

    def check_tokens(fingerprint: str) -> None:
        _same_tokens(settings, fingerprint)
        check_folder(paths, settings, settings.resume, fingerprint)

    def before_encoding(claims: Claims, missing: list[Shard]) -> tuple[()]:
        check_tokens(claims.folder.name)
        return ()

    store = TokenStore(prepare_store(settings, before_encoding), LocalCache.asked(settings.store))
    check_tokens(store.fingerprint)
    for what, why in store.uncopied.items():
        say(f"{what}: {why}")
    training = Training(settings, store, device)
    asked = trackers(settings.experiment, provenance("", paths.folder, store.folder))
    resumable = ResumableTraining(training, paths, resume=settings.resume and settings.resume.resolve())
    console.print(
        f"training {training.k}x{training.k} of {store.grid_size}x{store.grid_size} tokens on "
        f"{describe(device)}; {store.count('train')} train and {store.count('val')} val images; "
        f"checkpoints in {paths.folder}"
    )
    console.print(training.stated)
    if settings.resume:
        console.print(f"going on after {_reached(training)} of {settings.resume}")
    _run_epochs(resumable, settings)
    record = _record(resumable, settings)
    _deliver(asked, record)
    console.print(
        f"best validation distortion {training.best_distortion:.4f} in epoch {training.best_epoch}: {paths.best}"
    )
    return ExitCode.DONE


def _check_model(settings: Settings) -> None:
    """Raises RequestError where the compressor cannot cost what it is to match, or the machine cannot hold it."""
    from toconv.sweep.plan import check_memory  # start-up: torch

    asked, encoder = settings.model.compressor, settings.encoder
    if asked.match:
        from toconv.models.families import match, matched_text  # start-up: torch

        console.print(matched_text(asked, match(asked, encoder.width, encoder.grid_size)))
    check_memory(settings, asked.sizes)


def how_to_go_on() -> str:
    """The same command with the newest checkpoint, or from the start where there is none yet."""
    given = config.parse_overrides(a for a in sys.argv if a.startswith("experiment.checkpoint_dir="))
    paths = TrialPaths(path_of(given.get("experiment.checkpoint_dir") or "checkpoints"))
    there = [path for path in (paths.latest, paths.interrupted) if path.exists()]
    sys.argv[1:] = [a for a in sys.argv[1:] if not a.startswith("resume=")]
    if there:
        newest = max(there, key=lambda path: path.stat().st_mtime_ns)
        sys.argv.append(config.override_text("resume", str(newest)))
    return same_command()


def settings_of(overrides: dict[str, Any]) -> Settings:
    """The settings asked for, over those of the checkpoint where there is a `resume`. Raises RequestError where a
    setting that decides the training differs from the checkpoint's."""
    settings = config.compose(overrides)
    if settings.resume is None:
        return settings
    from toconv import checkpoint  # start-up: torch
    from toconv.training.epochs import TRAINED

    saved = config.flat(checkpoint.load(settings.resume, TRAINED)["settings"])
    groups = set(config.groups())
    chosen = overrides.keys() - groups
    now, deciding = config.flat(settings.model_dump(mode="json")), filter(changes_a_number, sorted(chosen))
    changed = [key for key in deciding if key != EPOCHS and now[key] != saved.get(key)]
    if changed:
        raise RequestError(
            *(f"{key}={overrides[key]}: the checkpoint was trained with {saved.get(key)}" for key in changed)
        )
    kept = {key: value for key, value in saved.items() if not key.startswith(("resume", "experiment."))}
    return config.compose({key: overrides[key] for key in overrides if key in groups}, kept, overrides)


def _same_tokens(settings: Settings, fingerprint: str) -> None:
    """Raises CheckpointError, before anything is encoded, where the checkpoint to go on from is of other tokens."""
    if settings.resume is None:
        return
    from toconv import checkpoint  # start-up: torch

    theirs = checkpoint.load(settings.resume)["store"]["fingerprint"]
    if theirs != fingerprint:
        raise CheckpointError(f"{settings.resume}: was trained on tokens {theirs}, but these are {fingerprint}")


def check_folders(settings: Settings) -> None:
    """Raises RequestError where a folder that the training writes in cannot be written."""
    from toconv.tokens.local_cache import unusable  # start-up: the libraries of an encoding

    wanted = {
        "experiment.checkpoint_dir": settings.experiment.checkpoint_dir,
        "data.tokens_dir": settings.data.tokens_dir,
    }
    reasons = {name: unwritable(folder) for name, folder in wanted.items()}
    mistakes = [f"{name}={wanted[name]}: cannot be written ({reason})" for name, reason in reasons.items() if reason]
    mistakes += filter(None, [unusable(settings.store)])
    if mistakes:
        raise RequestError(*mistakes)


def _reached(training: Training) -> str:
    at = training.partial
    return f"epoch {training.epoch}" + (f" and {at.steps} of {len(training.train)} steps" if at and at.steps else "")


def _run_epochs(resumable: ResumableTraining, settings: Settings) -> None:
    """Raises KeyboardInterrupt after SIGTERM, once what was trained is on the disk."""
    from toconv.training.partial_epoch import LeftEpoch  # start-up: torch

    epochs, done = settings.training.epochs, resumable.training.epoch
    with bar("steps") as progress, sigterm_asks() as asked:
        task = progress.add_task(f"epoch {done + 1}/{epochs}", total=len(resumable.training.train))

        def on_log(step: int, steps: int, losses: dict[str, float]) -> None:
            shown = " ".join(f"{name} {losses[name]:.3f}" for name in ("L_total", "L_disc"))
            text = f"epoch {resumable.training.epoch + 1}/{epochs} {shown}"
            progress.update(task, completed=step, total=steps, description=text)

        try:
            for epoch in resumable.epochs(on_log, asked):
                names = ("distortion", "perception", "cosine", "L_total")
                values = ", ".join(f"{name} {epoch.metrics[name]:.4f}" for name in names)
                console.print(f"epoch {epoch.epoch}/{epochs}: {values}, {epoch.seconds:.1f} s")
        except LeftEpoch:
            console.print(f"saved after {_reached(resumable.training)}")
            raise KeyboardInterrupt from None


def _deliver(asked: Sequence[Tracker], record: TrialRecord) -> None:
    """Raises MachineryError where a store does not take the record; the training is on the disk, and goes on from its
    end."""
    with phase("delivering to MLflow"):
        try:
            for tracker in asked:
                tracker.sync(record)
        except Exception as error:  # whatever a tracking server can do wrong
            raise MachineryError(f"the training is done, but not delivered: {redact(told(error))}") from error


def _record(resumable: ResumableTraining, settings: Settings) -> TrialRecord:
    from toconv.tracking.provenance import settings_of_training  # start-up: torch
    from toconv.training.identity import trial_id

    last, deciding, training = resumable.done[-1], settings_of_training(settings), resumable.training
    return TrialRecord(
        trial_id=trial_id(settings, training.store.fingerprint),
        name=f"train k={training.k}",
        kind=Kind.TRIAL,
        state=State.COMPLETE,
        cell="",
        tokens=training.k**2,
        params={key: deciding[key] for key in SYMBOLS},
        settings=deciding,
        kept=True,
        values=last.metrics,
        device_seconds=last.seconds,
        folder=resumable.paths.folder,
    )
