"""One training without a sweep: settings → tokens → epochs in ./checkpoints, recorded in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toconv import config
from toconv.errors import ExitCode, RequestError
from toconv.progress import bar, console
from toconv.settings import Settings

FREE = ("hardware.", "experiment.", "training.epochs", "training.log_every", "training.checkpoint_every",
        "training.keep_last_n", "data.tokens_dir", "data.workers", "resume")  # may differ after a resume


def train(arguments: list[str]) -> ExitCode:
    """Raises RequestError on a wrong request before any work starts."""
    settings = settings_of(config.parse_overrides(arguments))
    from toconv.durable import DurableTraining
    from toconv.hardware import describe, keep_freed_memory, limit_threads, resolve_device
    from toconv.paths import TrialPaths
    from toconv.sweep.origin import origin
    from toconv.sweep.tracking import Tracker, check_access
    from toconv.tokens.store import TokenStore, prepare_store
    from toconv.training import Training

    check_access(settings.experiment)
    limit_threads(settings.hardware)
    keep_freed_memory()
    device = resolve_device(settings.hardware)
    store = TokenStore(prepare_store(settings))
    training = Training(settings, store, device)
    paths = TrialPaths(settings.experiment.checkpoint_dir.resolve())
    tracker = Tracker(settings.experiment, origin("", paths.folder, store.folder))
    durable = DurableTraining(training, paths, resume=settings.resume)
    console.print(f"training {training.k}x{training.k} of {store.grid_size}x{store.grid_size} tokens on "
                  f"{describe(device)}; {store.count('train')} train and {store.count('val')} val images; "
                  f"checkpoints in {paths.folder}")
    if settings.resume:
        console.print(f"going on after epoch {training.epoch} of {settings.resume}")
    _run(durable, settings)
    _record(durable, settings, paths, tracker)
    console.print(f"best validation distortion {training.best_distortion:.4f} in epoch {training.best_epoch}: "
                  f"{paths.best}")
    return ExitCode.DONE


def settings_of(overrides: dict[str, Any]) -> Settings:
    """The settings asked for, over those of the checkpoint where there is a `resume`.

    Raises RequestError where a setting that decides the training differs from the checkpoint's.
    """
    settings = config.compose(overrides)
    if settings.resume is None:
        return settings
    from toconv import checkpoint

    saved = config.flat(checkpoint.load(settings.resume)["settings"])
    groups = set(config.groups())
    chosen = {key for key in overrides if key not in groups}
    changed = [f"{key}={overrides[key]}: the checkpoint was trained with {saved[key]}"
               for key in sorted(chosen) if not key.startswith(FREE) and config.flat(
                   settings.model_dump(mode="json"))[key] != saved[key]]
    if changed:
        raise RequestError(*changed)
    kept = {key: value for key, value in saved.items() if not key.startswith(("resume", "experiment."))}
    return config.compose({key: overrides[key] for key in overrides if key in groups}, kept, overrides)


def _run(durable: Any, settings: Settings) -> None:
    from toconv.machine import EpochMeter

    epochs, done = settings.training.epochs, durable.training.epoch
    machine = EpochMeter(durable.paths.machine) if settings.experiment.system_metrics else None
    with bar("steps") as progress:
        task = progress.add_task(f"epoch {done + 1}/{epochs}", total=len(durable.training.train))

        def on_log(step: int, steps: int, losses: dict[str, float]) -> None:
            progress.update(task, completed=step, total=steps,
                            description=f"epoch {durable.training.epoch + 1}/{epochs} "
                                        f"L_total {losses['L_total']:.3f} L_disc {losses['L_disc']:.3f}")

        for row in durable.epochs(on_log):
            if machine:
                machine.note(row["epoch"])
            metrics = row["metrics"]
            console.print(f"epoch {row['epoch']}/{epochs}: distortion {metrics['distortion']:.4f}, "
                          f"perception {metrics['perception']:.4f}, cosine {metrics['cosine']:.4f}, "
                          f"L_total {metrics['L_total']:.4f}, {row['seconds']:.1f} s")
    if machine:
        machine.close()


def _record(durable: Any, settings: Settings, paths: Any, tracker: Any) -> None:
    from toconv.identity import trial_id
    from toconv.sweep.origin import settings_of_training
    from toconv.sweep.records import SYMBOLS, TrialRecord

    last, deciding = durable.rows[-1], settings_of_training(settings)
    record = TrialRecord(
        trial_id=trial_id(settings, durable.training.store.fingerprint), name=f"train k={durable.training.k}",
        kind="trial", state="complete", cell="", tokens=durable.training.k**2,
        params={key: deciding[key] for key in SYMBOLS}, settings=deciding, kept=True,
        values=last["metrics"], device_seconds=last["seconds"], folder=Path(paths.folder), reason=None)
    tracker.sync(record)
